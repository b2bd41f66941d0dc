import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { suite, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import type { CID } from 'multiformats/cid';
import { chunkCid } from '../../src/content/chunk.ts';
import type { Encoded, EncodedOptions } from '../../src/content/chunk-source.ts';
import type { Manifest } from '../../src/content/manifest.ts';
import { Likeness } from '../../src/delta/likeness.ts';
import { importFile } from '../../src/import/import-file.ts';
import { MemoryStore } from '../fakes/memory-store.ts';
import { Fleet } from './fleet.ts';

const signal = AbortSignal.timeout(60_000);

/** Gives a frame where a chunk compresses, and a broken one when it lies. */
class ZstdStore extends MemoryStore {
  readonly kept: CID[] = [];
  readonly #lies: boolean;

  constructor({ lies = false } = {}) {
    super();
    this.#lies = lies;
  }

  async encoded(cid: CID, { zstd, ...options }: EncodedOptions): Promise<Encoded | undefined> {
    const bytes = await this.get(cid, options);
    if (bytes === undefined || !zstd) return bytes && { encoding: 'plain', bytes };
    const frame = zstdCompressSync(bytes);
    if (this.#lies) frame[frame.length - 3] = (frame[frame.length - 3] ?? 0) ^ 0xff;
    return { encoding: 'zstd', bytes: frame };
  }

  override async put(cid: CID, bytes: Uint8Array, encoded?: Encoded): Promise<void> {
    if (encoded?.encoding === 'zstd') this.kept.push(cid);
    await super.put(cid, bytes);
  }
}

function text(count: number): Buffer {
  return Buffer.from(
    Array.from({ length: count }, (_, line) => `line ${line} of ${(line * 2654435761) % 1e9}\n`).join(''),
  );
}

async function imported(bytes: Uint8Array, store: MemoryStore): Promise<Manifest> {
  return importFile(
    (async function* () {
      yield bytes;
    })(),
    store,
    { signal },
  );
}

suite('what a swarm sends of a file', () => {
  test('is compressed when the sender keeps it so, and the receiver keeps it as it came', async () => {
    await using fleet = new Fleet();
    const [from, to] = [new ZstdStore(), new ZstdStore()];
    const bytes = text(60_000);
    const manifest = await imported(bytes, from);
    const origin = await fleet.node({ store: from });
    const node = await fleet.node({ store: to });
    await origin.swarm.share(manifest.set);
    const report = await node.swarm.download(manifest.set, { priority: 'foreground', signal });
    assert.equal(report.bytes, bytes.length);
    const came = node.swarm.peers().reduce((sum, { bytesIn }) => sum + bytesIn, 0);
    assert.ok(came < bytes.length / 2, `${came} bytes came of ${bytes.length}`);
    assert.equal(to.kept.length, manifest.set.chunks.length);
  });

  test('is what is new in it, to a node that has the version before', async () => {
    await using fleet = new Fleet();
    const [from, to] = [new ZstdStore(), new ZstdStore()];
    const before = randomBytes(3_000_000);
    // A bit here and there: each chunk is another one, and none is new.
    const after = Buffer.concat([randomBytes(9), before]);
    for (let at = 5_000; at < after.length; at += 15_000) after[at] = (after[at] ?? 0) ^ 1;
    after[after.length - 1] = (after.at(-1) ?? 0) ^ 1;
    const old = await imported(before, from);
    await imported(before, to);
    const manifest = await imported(after, from);
    const origin = await fleet.node({ store: from, site: 'far' });
    const node = await fleet.node({ store: to, site: 'here' });
    await origin.swarm.share(manifest.set);
    const wanted = manifest.set.chunks.filter(({ cid }) => old.set.indexOf(cid) === undefined);
    assert.equal(wanted.length, manifest.set.chunks.length);
    using _ = await node.swarm.liken(manifest.set, Likeness.between(manifest, { leaves: old.leaves, source: to }));
    const report = await node.swarm.download(manifest.set, { priority: 'foreground', signal });
    assert.equal(report.bytes, after.length);
    const came = node.swarm.peers().reduce((sum, { bytesIn }) => sum + bytesIn, 0);
    assert.ok(came < after.length / 50, `${came} bytes came of ${after.length}`);
  });

  test('that cannot be decompressed is held against its sender, and comes from another one', async () => {
    await using fleet = new Fleet();
    const [liar, honest] = [new ZstdStore({ lies: true }), new ZstdStore()];
    const bytes = text(40_000);
    const manifest = await imported(bytes, liar);
    await imported(bytes, honest);
    const lying = await fleet.node({ store: liar });
    const other = await fleet.node({ store: honest });
    const node = await fleet.node();
    await Promise.all([lying, other].map(({ swarm }) => swarm.share(manifest.set)));
    const refused: string[] = [];
    node.swarm.events.on('chunk:refuse', ({ peerId }) => refused.push(peerId));
    const banned = new Promise((resolve) => node.swarm.events.once('peer:ban', resolve));
    await node.swarm.download(manifest.set, { priority: 'foreground', signal });
    await banned;
    assert.deepEqual(new Set(refused), new Set([lying.swarm.peerId]));
    for (const { cid } of manifest.leaves) {
      const stored = await node.store.get(cid, { signal });
      assert.ok(stored && chunkCid(stored).equals(cid));
    }
  });
});
