import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { suite, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import type { CID } from 'multiformats/cid';
import { BufferPool } from '../../src/content/buffer-pool.ts';
import { chunkCid, MAX_CHUNK_BYTES, matches } from '../../src/content/chunk.ts';
import type { Encoded, EncodedOptions } from '../../src/content/chunk-source.ts';
import { BadCompression, compress } from '../../src/delta/compression.ts';
import { readAll } from '../../src/delta/likeness.ts';
import { ACCEPTED_FLAGS, allowance, FRAME_FLAGS, type Like, Packer, unpack } from '../../src/exchange/packing.ts';
import { RecentChunks } from '../../src/exchange/recent.ts';
import { encodeFrames, type Frame, FrameReader, MalformedFrame } from '../../src/lane/frame.ts';
import { MemoryStore } from '../fakes/memory-store.ts';

const { signal } = new AbortController();
const old = randomBytes(40_000);
const wanted = Buffer.concat([old.subarray(0, 15_000), randomBytes(20), old.subarray(15_040)]);
const oldCid = chunkCid(old);
const cid = chunkCid(wanted);

class ZstdStore extends MemoryStore {
  async encoded(name: CID, { zstd, signal: until }: EncodedOptions): Promise<Encoded | undefined> {
    const bytes = await this.get(name, { signal: until });
    if (bytes === undefined) return undefined;
    const frame = zstdCompressSync(bytes);
    return zstd && frame.length < bytes.length ? { encoding: 'zstd', bytes: frame } : { encoding: 'plain', bytes };
  }
}

async function filled<S extends MemoryStore>(store: S, ...chunks: Uint8Array[]): Promise<S> {
  for (const bytes of chunks) await store.put(chunkCid(bytes), bytes);
  return store;
}

async function like(...chunks: Uint8Array[]): Promise<Like> {
  const store = await filled(new MemoryStore(), ...chunks);
  const names = chunks.map((bytes) => chunkCid(bytes));
  return { names, from: { read: (asked, options) => readAll(store, asked, options) } };
}

function nothingRecent(): RecentChunks {
  return new RecentChunks(new BufferPool());
}

suite('chunks on their way to a peer', () => {
  test('cost what is new in them when both have what they are like', async () => {
    const packer = new Packer(await filled(new MemoryStore(), old, wanted), nothingRecent());
    const packed = await packer.pack(cid, { accepts: ACCEPTED_FLAGS, like: [oldCid], far: true, signal });
    assert.ok(packed && packed.flags === ACCEPTED_FLAGS && packed.bytes.length < 150, `${packed?.bytes.length} bytes`);
    const expected = { size: wanted.length, like: await like(old) };
    assert.ok(packed.bytes.length <= allowance(expected, packed.flags));
    const plain = await unpack(expected, packed, signal);
    assert.ok(plain && matches(cid, plain));
  });

  test('leave as they are kept for a peer that reads nothing else, and when what they are like is not here', async () => {
    const store = await filled(new MemoryStore(), wanted);
    const packer = new Packer(store, nothingRecent());
    const as = (accepts: number) => packer.pack(cid, { accepts, like: [oldCid], far: true, signal });
    for (const accepts of [0, FRAME_FLAGS.like, FRAME_FLAGS.zstd, ACCEPTED_FLAGS, 0xff]) {
      assert.deepEqual(await as(accepts), { flags: 0, bytes: Uint8Array.from(wanted) });
    }
    await store.put(oldCid, old);
    assert.equal((await as(FRAME_FLAGS.zstd))?.flags, 0);
    assert.equal((await as(0))?.flags, 0);
    assert.equal((await as(ACCEPTED_FLAGS))?.flags, ACCEPTED_FLAGS);
    assert.equal(await packer.pack(chunkCid(randomBytes(3)), { accepts: 3, like: [], far: true, signal }), undefined);
  });

  test('leave compressed as the store keeps them', async () => {
    const text = Buffer.from('text that compresses '.repeat(1_000));
    const packer = new Packer(await filled(new ZstdStore(), text, wanted), nothingRecent());
    const packed = await packer.pack(chunkCid(text), { accepts: ACCEPTED_FLAGS, like: [], far: false, signal });
    assert.equal(packed?.flags, FRAME_FLAGS.zstd);
    assert.deepEqual(await unpack({ size: text.length }, packed, signal), text);
    assert.deepEqual(await unpack({ size: undefined }, packed, signal), text);
    assert.equal((await packer.pack(chunkCid(text), { accepts: 0, like: [], far: false, signal }))?.flags, 0);
    assert.equal((await packer.pack(cid, { accepts: ACCEPTED_FLAGS, like: [], far: false, signal }))?.flags, 0);
  });

  test('are not taken in a form that nobody asked for, nor longer than they are', async () => {
    const expected = { size: 1_000, like: await like(old) };
    assert.equal(allowance(expected, 0), 1_000);
    assert.equal(allowance(expected, FRAME_FLAGS.zstd), 999);
    assert.equal(allowance(expected, ACCEPTED_FLAGS), 999);
    assert.equal(allowance({ size: undefined }, FRAME_FLAGS.zstd), MAX_CHUNK_BYTES - 1);
    for (const flags of [FRAME_FLAGS.like, 4, 5, 7, 255]) assert.equal(allowance(expected, flags), 0);
    assert.equal(allowance({ size: 1_000 }, ACCEPTED_FLAGS), 0);
    assert.equal(allowance({ size: 1_000, like: { ...expected.like, names: [] } }, ACCEPTED_FLAGS), 0);
  });

  test('are asked for again when what they were compressed against is gone meanwhile', async () => {
    const bytes = await compress(wanted, { level: 6, like: old });
    const gone = { names: [oldCid], from: { read: async () => undefined } };
    assert.equal(
      await unpack({ size: wanted.length, like: gone }, { flags: ACCEPTED_FLAGS, bytes }, signal),
      undefined,
    );
  });

  test('property: 10^5 hostile frames become the asked bytes, a refusal, or wrong bytes of the asked size', async () => {
    const small = old.subarray(0, 2_000);
    const chunk = Buffer.concat([small.subarray(0, 900), Buffer.from('new'), small.subarray(900)]);
    const text = Buffer.from('abc '.repeat(600));
    const expectations = [
      { size: chunk.length, like: await like(small) },
      { size: text.length, like: undefined },
      { size: undefined, like: undefined },
    ];
    const honest: Frame[] = [
      { request: 0, flags: ACCEPTED_FLAGS, bytes: await compress(chunk, { level: 6, like: small }) },
      { request: 1, flags: FRAME_FLAGS.zstd, bytes: zstdCompressSync(text) },
      { request: 2, flags: FRAME_FLAGS.zstd, bytes: await compress(text, { level: 1 }) },
      { request: 2, flags: 0, bytes: chunk },
    ];
    const bytes = fc
      .tuple(fc.constantFrom(...honest), fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }), fc.nat(20))
      .map(([frame, flips, cut]) => {
        const wire = encodeFrames([frame]);
        // The header is hit as often as what follows.
        for (const [at, value] of flips) wire[at % (value % 2 === 0 ? wire.length : 12)] = value;
        return cut > 15 ? wire.subarray(0, wire.length - cut) : wire;
      });
    let allocated = 0;
    const outcomes = { right: 0, wrong: 0, refused: 0, malformed: 0, unfinished: 0 };
    const property = fc.asyncProperty(bytes, async (wire) => {
      const frames: Frame[] = [];
      const reader = new FrameReader({
        allow: (request, flags) => {
          const expected = expectations[request];
          return expected === undefined ? 0 : allowance(expected, flags);
        },
        allocate: (length) => {
          allocated = Math.max(allocated, length);
          return new Uint8Array(length);
        },
        onFrame: (frame) => frames.push(frame),
      });
      try {
        reader.push(wire);
      } catch (error) {
        assert.ok(error instanceof MalformedFrame, String(error));
        outcomes.malformed += 1;
      }
      if (frames.length === 0) outcomes.unfinished += 1;
      for (const frame of frames) {
        const expected = expectations[frame.request];
        assert.ok(expected);
        const plain = await unpack(expected, frame, signal).catch((error: unknown) => error);
        if (plain instanceof Uint8Array) {
          assert.ok(frame.flags === 0 || plain.length === (expected.size ?? plain.length));
          assert.ok(plain.length <= MAX_CHUNK_BYTES);
          outcomes[chunk.equals(plain) || text.equals(plain) ? 'right' : 'wrong'] += 1;
        } else {
          assert.ok(plain instanceof BadCompression, String(plain));
          outcomes.refused += 1;
        }
      }
    });
    await fc.assert(property, { numRuns: 100_000 });
    assert.ok(allocated < MAX_CHUNK_BYTES);
    for (const [outcome, count] of Object.entries(outcomes)) assert.ok(count > 100, `${outcome}: ${count}`);
  });
});
