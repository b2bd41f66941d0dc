import assert from 'node:assert/strict';
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Updater } from 'tuf-js';
import { DownloadHTTPError } from 'tuf-js/dist/error.js';
import { type Disk, durableDisk } from '../../src/disk/durable-file.ts';
import { addChannelKey } from '../../src/release/fleet-keys.ts';
import { PublishRefused, publish, readRepository, renew } from '../../src/release/publisher.ts';
import { parseRelease, ReleaseInvalid } from '../../src/release/release.ts';
import { FakeNetwork } from '../fakes/metadata-network.ts';
import { artifact, TestFleet } from '../fakes/release-fleet.ts';

const signal = AbortSignal.timeout(60_000);
const refusedFor = (reason: string) => (error: unknown) => error instanceof PublishRefused && error.reason === reason;

/** Does the first `steps` writes, then dies; with `torn`, in the middle of the next (before its name is there). */
function dyingDisk(steps: number): Disk {
  let left = steps;
  const step = () => {
    if (left === 0) throw new Error('killed');
    left -= 1;
  };
  return {
    create: async (file, bytes) => {
      step();
      return durableDisk.create(file, bytes);
    },
    replace: async (file, bytes) => {
      step();
      return durableDisk.replace(file, bytes);
    },
  };
}

describe('publishing', () => {
  it('makes a repository that plain tuf-js verifies over its own names', async () => {
    await using fleet = await TestFleet.create();
    const release = await fleet.publish('one');
    const metadataDir = join(fleet.directory, 'client');
    await cp(fleet.repository, metadataDir, { recursive: true, filter: (name) => !name.endsWith('.json') });
    await writeFile(join(metadataDir, 'root.json'), fleet.keys.root);
    const read = async (url: string) => {
      const file = join(fleet.repository, url.slice('http://repository/'.length));
      return readFile(file).catch(() => {
        throw new DownloadHTTPError('none', 404);
      });
    };
    const updater = new Updater({
      metadataDir,
      metadataBaseUrl: 'http://repository',
      targetDir: metadataDir,
      targetBaseUrl: 'http://repository/targets',
      fetcher: {
        downloadBytes: read,
        downloadFile: async (url, _, handler) => {
          await writeFile(join(metadataDir, 'download'), await read(url));
          return handler(join(metadataDir, 'download'));
        },
      },
    });
    await updater.refresh();
    const target = await updater.getTargetInfo('production/release.json');
    assert.ok(target);
    assert.deepEqual(parseRelease(await readFile(await updater.downloadTarget(target))), release);
  });

  it('counts a channel up, and refuses a version that was used', async () => {
    await using fleet = await TestFleet.create();
    assert.equal((await fleet.publish('one')).version, 1);
    assert.equal((await fleet.publish('two')).version, 2);
    assert.equal((await fleet.publish('ten', { version: 10 })).version, 10);
    await assert.rejects(fleet.publish('ten again', { version: 10 }), refusedFor('version'));
    assert.equal((await fleet.publish('other channel', { channel: 'testing' })).version, 1);
    await assert.rejects(fleet.publish('lost', { channel: 'nightly' }), refusedFor('channel'));
    await assert.rejects(fleet.publish('no pieces', { rootfs: { ...artifact('r'), pieces: undefined } }), /pieces/);
    await assert.rejects(fleet.publish('no line', { cmdline: 'a\nb' }), ReleaseInvalid);
    assert.equal((await fleet.publish('eleven')).version, 11);
  });

  it('trusts the key of a channel that was added, from then on', async () => {
    await using fleet = await TestFleet.create();
    const node = await fleet.node(new FakeNetwork().node('a'));
    await fleet.publish('one');
    await node.adopt(fleet.repository, { signal });
    await addChannelKey(fleet.keys, 'canary');
    await fleet.publish('bird', { channel: 'canary' });
    await node.adopt(fleet.repository, { signal });
    assert.equal(node.current('canary')?.release.version, 1);
    assert.equal(node.current('production')?.release.version, 1);
  });

  it('killed between any two writes leaves the old state or the new one, and the next publish goes on', async () => {
    await using fleet = await TestFleet.create();
    await fleet.publish('one');
    const before = await fleet.snapshot('before');
    const network = new FakeNetwork();
    const seen = new Set<number>();
    for (let steps = 0, finished = false; !finished; steps += 1) {
      await rm(fleet.repository, { recursive: true });
      await cp(before, fleet.repository, { recursive: true });
      finished = await fleet.publish(`step ${steps}`, {}, { disk: dyingDisk(steps) }).then(
        () => true,
        (error: Error) => assert.match(error.message, /killed/) ?? false,
      );
      const node = await fleet.node(network.node(`n${steps}`));
      await node.adopt(fleet.repository, { signal });
      const version = node.current('production')?.version;
      assert.ok(version === 1 || version === 2, `version ${version} after ${steps} steps`);
      seen.add(version);
      await fleet.publish(`after ${steps}`);
      await node.adopt(fleet.repository, { signal });
      assert.equal(node.current('production')?.version, version + 1);
      assert.equal(node.current('production')?.stale, false);
    }
    assert.deepEqual([...seen].sort(), [1, 2]);
  });

  it('twice at once gives one winner, or both in order, and never two states of one version', async () => {
    await using fleet = await TestFleet.create();
    await fleet.publish('one');
    const results = await Promise.allSettled([1, 2, 3, 4].map((n) => fleet.publish(`rival ${n}`)));
    for (const result of results) {
      if (result.status === 'rejected') assert.ok(refusedFor('conflict')(result.reason), String(result.reason));
    }
    const node = await fleet.node(new FakeNetwork().node('a'));
    await node.adopt(fleet.repository, { signal });
    const winners = results.filter(({ status }) => status === 'fulfilled').length;
    assert.equal(node.current('production')?.version, 1 + winners);
  });

  it('over damaged metadata says which file and what to do', async () => {
    await using fleet = await TestFleet.create();
    await fleet.publish('one');
    await writeFile(join(fleet.repository, '1.snapshot.json'), '{}');
    await assert.rejects(fleet.publish('two'), refusedFor('damaged'));
  });

  it('renews what is there without a new release', async () => {
    await using fleet = await TestFleet.create();
    await fleet.publish('one');
    const old = JSON.parse(String(await readRepository(fleet.repository, 'timestamp.json')));
    const clock = () => Date.now() + 86_400_000;
    await renew({ keys: fleet.keys, directory: fleet.repository }, { clock });
    const renewed = JSON.parse(String(await readRepository(fleet.repository, 'timestamp.json')));
    assert.equal(renewed.signed.version, old.signed.version + 1);
    assert.ok(renewed.signed.expires > old.signed.expires);
    const node = await fleet.node(new FakeNetwork().node('a'));
    await node.adopt(fleet.repository, { signal });
    assert.equal(node.current('production')?.version, 1);
  });

  it('needs no more than the names of its request', async () => {
    await using fleet = await TestFleet.create();
    const release = await publish({
      keys: fleet.keys,
      directory: fleet.repository,
      channel: 'testing',
      rootfs: artifact('only a rootfs'),
    });
    assert.deepEqual(Object.keys(release.arch.x86_64), ['rootfs', 'cmdline']);
  });
});
