/** A process that is killed: imports what comes on standard input into the store DIRECTORY, and tells how far it is. */
import { importFile } from '../../src/import/import-file.ts';
import { ToldStore } from './told-store.ts';
import { say } from './word.ts';

const [directory] = process.argv.slice(2);
if (!directory) throw new Error('usage: importer.ts DIRECTORY');
const store = await ToldStore.open(directory);
const { cid } = await importFile(process.stdin, store, { signal: new AbortController().signal });
await store[Symbol.asyncDispose]();
say({ said: 'done', root: cid.toString() });
