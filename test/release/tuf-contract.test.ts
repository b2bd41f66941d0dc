import assert from 'node:assert/strict';
import { cp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { canonicalize } from '@tufjs/canonical-json';
import { Updater } from 'tuf-js';
import { DownloadHTTPError } from 'tuf-js/dist/error.js';
import { readRepository } from '../../src/release/publisher.ts';
import { TestFleet } from '../fakes/release-fleet.ts';

const require = createRequire(import.meta.url);
const BASE = 'bootmesh://documents';

async function updater(fleet: TestFleet, read: (name: string) => Promise<Buffer | undefined>, forceCache = false) {
  const metadataDir = join(fleet.directory, 'contract');
  await cp(fleet.repository, metadataDir, { recursive: true, filter: (name) => !name.endsWith('.json') });
  await writeFile(join(metadataDir, 'root.json'), fleet.keys.root, { flag: 'wx' }).catch(() => undefined);
  const asked: string[] = [];
  const downloadBytes = async (url: string) => {
    const name = url.slice(BASE.length + 1);
    asked.push(name);
    const bytes = await read(name);
    if (bytes === undefined) throw new DownloadHTTPError('none', 404);
    return bytes;
  };
  const fetcher = { downloadBytes, downloadFile: () => Promise.reject(new Error('not used')) };
  const make = () => new Updater({ metadataDir, metadataBaseUrl: BASE, fetcher, forceCache });
  return { make, asked, metadataDir };
}

/** What this room relies on in tuf-js and its models; a new version that breaks one of these breaks us. */
describe('the TUF libraries', () => {
  it('are the versions that were examined', () => {
    const version = (name: string) => require(`${name}/package.json`).version;
    const found = ['tuf-js', '@tufjs/models', '@tufjs/canonical-json'].map(version);
    assert.deepEqual(found, ['6.0.2', '5.0.2', '2.0.0']);
  });

  it('end the walk along the roots at a DownloadHTTPError 404, and at nothing else', async () => {
    await using fleet = await TestFleet.create();
    await fleet.publish('one');
    const good = await updater(fleet, (name) => readRepository(fleet.repository, name));
    await good.make().refresh();
    assert.deepEqual(good.asked, ['2.root.json', 'timestamp.json', '1.snapshot.json', '1.targets.json']);
    const bad = await updater(fleet, () => Promise.reject(new Error('no such document')));
    await assert.rejects(bad.make().refresh(), /no such document/);
  });

  it('refresh without anyone to ask only when forceCache says so', async () => {
    await using fleet = await TestFleet.create();
    await fleet.publish('one');
    await (await updater(fleet, (name) => readRepository(fleet.repository, name))).make().refresh();
    await assert.rejects((await updater(fleet, async () => undefined)).make().refresh(), DownloadHTTPError);
    const offline = await updater(fleet, async () => undefined, true);
    await offline.make().refresh();
    assert.deepEqual(offline.asked, []);
  });

  it('trip over a truncated root.json, and write without a draft: they work on scratch copies only', async () => {
    await using fleet = await TestFleet.create();
    await fleet.publish('one');
    const { make, metadataDir } = await updater(fleet, (name) => readRepository(fleet.repository, name));
    await make().refresh();
    await truncate(join(metadataDir, 'root.json'), 100);
    assert.throws(make, SyntaxError);
    await rm(join(metadataDir, 'root.json'));
    assert.throws(make, { code: 'ENOENT' });
  });

  it('keep the timestamp they have when another of its version comes: forks are ours to see', async () => {
    await using fleet = await TestFleet.create();
    await fleet.publish('one');
    const other = await fleet.snapshot('other');
    await fleet.publish('two');
    await fleet.publish('another two', { directory: other });
    const { make, metadataDir } = await updater(fleet, (name) => readRepository(fleet.repository, name));
    await make().refresh();
    const before = await readFile(join(metadataDir, 'timestamp.json'));
    await (await updater(fleet, (name) => readRepository(other, name))).make().refresh();
    assert.deepEqual(await readFile(join(metadataDir, 'timestamp.json')), before);
  });

  it('canonicalize by sorting, with control characters as they are: our texts have none', () => {
    assert.equal(canonicalize({ b: [1, true, null], a: 'x"\\\n' }), '{"a":"x\\"\\\\\n","b":[1,true,null]}');
    assert.throws(() => canonicalize(1.5), TypeError);
  });
});
