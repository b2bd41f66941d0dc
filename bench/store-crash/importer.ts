import { writeSync } from 'node:fs';
import { importFile } from '../../src/content/import-file.ts';
import { PackStore } from '../../src/store/pack-store.ts';
import { silentLog } from '../../src/observe/log.ts';
import { STORE_OPTIONS } from './options.ts';

/**
 * The process that is killed: imports FILE into the store DIRECTORY, and says on standard output, line by line and
 * without buffering, what is synced and how far it is: `synced <segment file> <bytes>`, `progress <bytes>`, `done`.
 */
const [directory, file] = process.argv.slice(2);
if (!directory || !file) throw new Error('usage: importer.ts DIRECTORY FILE');
const say = (line: string) => void writeSync(1, `${line}\n`);
const store = await PackStore.open(
  directory,
  { log: silentLog },
  { ...STORE_OPTIONS, onSync: (synced) => say(`synced ${synced.file} ${synced.bytes}`) },
);
await importFile(file, store, {
  signal: new AbortController().signal,
  onProgress: ({ bytes }) => say(`progress ${bytes}`),
});
say('done');
await store[Symbol.asyncDispose]();
