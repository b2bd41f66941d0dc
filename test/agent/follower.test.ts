import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { CID } from 'multiformats/cid';
import { Artifacts } from '../../src/agent/artifacts.ts';
import { Follower } from '../../src/agent/follower.ts';
import { importArtifact } from '../../src/agent/import-artifact.ts';
import { ReleaseFaults } from '../../src/agent/release-faults.ts';
import { outdatedPins } from '../../src/agent/release-pin.ts';
import { chunkCid } from '../../src/content/chunk.ts';
import { silentLog } from '../../src/observe/log.ts';
import type { Channels } from '../../src/release/channels.ts';
import type { PackStoreOptions } from '../../src/store/pack-options.ts';
import { PackStore } from '../../src/store/pack-store.ts';
import type { Swarm } from '../../src/swarm/swarm.ts';
import { FakeNetwork } from '../fakes/metadata-network.ts';
import { TestFleet } from '../fakes/release-fleet.ts';
import { Fleet } from '../swarm/fleet.ts';

const signal = AbortSignal.timeout(60_000);
let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'bm-follower-'));
});
after(() => rm(root, { recursive: true, force: true }));

/** Each look at it is a second later: nothing counts as in use because it was used just now. */
let clock = 0;

async function until(what: string, met: () => boolean): Promise<void> {
  for (const start = performance.now(); !met(); await delay(10)) {
    assert.ok(performance.now() - start < 15_000, what);
  }
}

/** A node's store and swarm, and what the agent makes of them. */
class Content implements AsyncDisposable {
  readonly store: PackStore;
  readonly swarm: Swarm;
  readonly artifacts: Artifacts;

  private constructor(store: PackStore, swarm: Swarm, artifacts: Artifacts) {
    this.store = store;
    this.swarm = swarm;
    this.artifacts = artifacts;
  }

  static async open(fleet: Fleet, name: string, options: PackStoreOptions = {}): Promise<Content> {
    let artifacts: Artifacts | undefined;
    const store = await PackStore.open(
      join(root, name),
      { log: silentLog, ...(options.graceSeconds === 0 && { seconds: () => clock++ }) },
      { ...options, onEvict: (cids) => void artifacts?.lost(cids) },
    );
    const { swarm } = await fleet.node({ store });
    artifacts = new Artifacts({ store, swarm, log: silentLog });
    return new Content(store, swarm, artifacts);
  }

  /** Cuts `bytes` into the store, as publishing does. */
  async add(bytes: Uint8Array) {
    const file = join(root, `file-${randomBytes(4).toString('hex')}`);
    await writeFile(file, bytes);
    const { manifest, ref } = await importArtifact(file, this.store, { signal });
    await this.artifacts.imported(manifest);
    return ref;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.swarm[Symbol.asyncDispose]();
    await this.store[Symbol.asyncDispose]();
  }
}

describe('a node that follows a channel', () => {
  it('boots machines from the release it has until a newer one is complete, also after a restart', {
    timeout: 60_000,
  }, async () => {
    await using releases = await TestFleet.create();
    await using fleet = new Fleet();
    const network = new FakeNetwork();
    await using origin = await Content.open(fleet, 'origin');
    const publish = async () => {
      const ref = await origin.add(randomBytes(3_000_000));
      const release = await releases.publish('any', { kernel: ref, initramfs: ref, rootfs: ref });
      return { version: release.version, cid: CID.parse(ref.cid) };
    };
    let channels: Channels | undefined;
    const start = async () => {
      const stack = new AsyncDisposableStack();
      const content = stack.use(await Content.open(fleet, 'edge'));
      channels = stack.use(await releases.node(network.node('edge')));
      const deps = { channels, artifacts: content.artifacts, pins: content.store.pins, log: silentLog };
      const follower = stack.use(new Follower(deps, ['production']));
      return { content, follower, channels, stop: () => stack.disposeAsync() };
    };
    const pinned = (content: Content) => new Set(content.store.pins.list().map(({ name }) => name.split('/')[2]));

    const one = await publish();
    let edge = await start();
    await edge.channels.adopt(releases.repository, { signal });
    await until('the first is complete', () => edge.follower.following('production')?.held?.version === one.version);
    // Two more are published, and nobody is there to give them.
    await origin.swarm[Symbol.asyncDispose]();
    const two = await publish();
    await edge.channels.adopt(releases.repository, { signal });
    const three = await publish();
    await edge.channels.adopt(releases.repository, { signal });
    await until('what was overtaken is let go', () => !pinned(edge.content).has(`${two.version}`));
    await edge.stop();

    edge = await start();
    await until('it has looked', () => edge.content.artifacts.isComplete(one.cid.toString()));
    assert.equal(edge.follower.following('production')?.newest?.version, three.version);
    assert.equal(edge.follower.serving('production')?.version, one.version);
    assert.deepEqual(pinned(edge.content), new Set(['1', '3']));
    await edge.content.store.gc({ signal, lowBytes: 0 });
    assert.ok(await edge.content.artifacts.isWhole(one.cid, { signal }), 'what machines boot from is not evicted');

    // Somebody has it again.
    const { swarm } = await fleet.node({ store: origin.store });
    const artifacts = new Artifacts({ store: origin.store, swarm, log: silentLog });
    for (const { cid } of [one, two, three]) await artifacts.isWhole(cid, { signal });
    await edge.stop();
    edge = await start();
    assert.equal(edge.follower.serving('production')?.version, one.version, 'from the first moment');
    await until('the newest is complete', () => edge.follower.serving('production')?.version === three.version);
    await until('the one before it stays', () => pinned(edge.content).size === 2);
    assert.deepEqual(pinned(edge.content), new Set(['1', '3']));
    const four = await publish();
    await edge.channels.adopt(releases.repository, { signal });
    assert.ok(pinned(edge.content).has('1'), 'previous, current and next');
    await artifacts.isWhole(four.cid, { signal });
    await until('four is complete', () => edge.follower.serving('production')?.version === four.version);
    await until('one is let go', () => !pinned(edge.content).has('1'));
    assert.deepEqual(pinned(edge.content), new Set(['3', '4']));
    await edge.stop();
  });

  it('never lets go of the newest, the complete and the one before that, and keeps no other', () => {
    const versions = fc.uniqueArray(fc.integer({ min: 1, max: 30 }), { minLength: 1 });
    fc.assert(
      fc.property(versions, fc.nat(), fc.nat(), (all, at, held) => {
        const sorted = all.toSorted((a, b) => a - b);
        const newest = sorted[at % sorted.length] ?? 1;
        const complete = sorted[held % ((at % sorted.length) + 1)] ?? 1;
        const pins = [...all, 99].flatMap((version) => [
          { channel: 'production', version, role: 'rootfs' },
          { channel: 'testing', version, role: 'rootfs' },
        ]);
        const gone = outdatedPins(pins, { channel: 'production', newest, held: complete });
        const left = pins.filter((pin) => !gone.includes(pin) && pin.channel === 'production');
        const before = sorted.filter((version) => version < complete).at(-1);
        const expected = new Set([...sorted.filter((v) => v >= newest), complete, ...(before ? [before] : []), 99]);
        assert.deepEqual(new Set(left.map(({ version }) => version)), expected);
        assert.ok(gone.every(({ channel }) => channel === 'production'));
        assert.deepEqual(outdatedPins(pins, { channel: 'production', newest, held: undefined }), []);
      }),
    );
  });
});

describe('a store over its watermark', () => {
  it('evicts nothing that is downloaded, read or pinned, and all the rest', { timeout: 60_000 }, async () => {
    await using fleet = new Fleet();
    await using origin = await Content.open(fleet, 'giver');
    const [download, read, pinned] = [randomBytes(6_000_000), randomBytes(2_000_000), randomBytes(1_000_000)];
    const refs = [await origin.add(download), await origin.add(read), await origin.add(pinned)];
    const [downloadCid, readCid, pinnedCid] = refs.map(({ cid }) => CID.parse(cid)) as [CID, CID, CID];
    await using edge = await Content.open(fleet, 'full', {
      segmentBytes: 500_000,
      syncBytes: 250_000,
      graceSeconds: 0,
      watermarks: { highBytes: 500_000, lowBytes: 250_000 },
    });
    await until('they are connected', () => edge.swarm.peers().some(({ connected }) => connected));
    await edge.store.pins.pin('mine', pinnedCid);
    await edge.artifacts.fetch(pinnedCid, { signal });
    await edge.artifacts.fetch(readCid, { signal });

    const over = new AbortController();
    const junk: CID[] = [];
    const churn = (async () => {
      while (!over.signal.aborted) {
        const bytes = randomBytes(20_000);
        junk.push(chunkCid(bytes));
        await edge.store.put(chunkCid(bytes), bytes);
        await delay(1);
      }
    })();
    let readers = 0;
    const readSet = await edge.artifacts.manifest(readCid, { signal });
    const collect = (async () => {
      for (; !over.signal.aborted; await delay(5)) {
        await edge.store.gc({ signal, lowBytes: 0 });
        if (readers > 0) assert.equal(await edge.artifacts.heldBytes(readSet), readSet.set.bytes);
      }
    })();
    const opened = Promise.withResolvers<void>();
    const guest = (async () => {
      const file = await edge.artifacts.open(readCid, { signal });
      const pieces: Uint8Array[] = [];
      for await (const piece of file.read({ signal })) {
        readers = 1;
        opened.resolve();
        pieces.push(Uint8Array.from(piece));
        await delay(20);
        readers = 0;
      }
      return Buffer.concat(pieces);
    })();
    await opened.promise;
    let fetched = 0;
    await edge.artifacts.fetch(downloadCid, { signal, onProgress: ({ bytes }) => (fetched = bytes) });
    assert.equal(fetched, download.length);
    using _kept = edge.store.hold((await edge.artifacts.manifest(downloadCid, { signal })).set);
    assert.ok(await edge.artifacts.isWhole(downloadCid, { signal }));
    assert.ok((await guest).equals(read));
    over.abort();
    await Promise.all([churn, collect]);
    await edge.store.gc({ signal, lowBytes: 0 });
    assert.ok(await edge.artifacts.isWhole(pinnedCid, { signal }));
    assert.ok(!(await edge.artifacts.isWhole(readCid, { signal })), 'what nobody reads any more goes');
    assert.ok(!edge.artifacts.isComplete(readCid.toString()));
    const left = await Promise.all(junk.map((cid) => edge.store.has(cid)));
    assert.equal(left.filter(Boolean).length, 0);

    // What was evicted is fetched again, and not believed to be here because it once was.
    await edge.artifacts.fetch(readCid, { signal });
    assert.ok(await edge.artifacts.isWhole(readCid, { signal }));
  });
});

describe('faults of release metadata', () => {
  it('are counted by who brought them, and only liars are blamed', async () => {
    await using releases = await TestFleet.create();
    const network = new FakeNetwork();
    const node = await releases.node(network.node('node'));
    const blamed: string[] = [];
    using faults = new ReleaseFaults({ channels: node, blame: (peer) => blamed.push(peer), clock: () => 0 });
    await releases.publish('one');
    await node.adopt(releases.repository, { signal });
    network.liar('liar', async () => Buffer.from('{"signed":{}}'));
    network.linkQuietly('node', 'liar');
    await node.refresh({ signal });
    await node.refresh({ signal });
    const [fault] = faults.list();
    assert.deepEqual(faults.list().length, 1);
    assert.equal(fault?.kind, 'refused');
    assert.equal(fault?.peerId, 'liar');
    assert.equal(fault?.count, 2);
    assert.match(fault?.what ?? '', /^timestamp\.json: invalid$/);
    assert.deepEqual(blamed, ['liar', 'liar']);
  });
});
