import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { cp, mkdtemp, open, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { crc32 } from 'node:zlib';
import type { CID } from 'multiformats/cid';
import { cached } from '../../src/content/cached.ts';
import { chunkCid } from '../../src/content/chunk.ts';
import { ChunkSet } from '../../src/content/chunk-set.ts';
import { compressed, decompressed } from '../../src/content/compression.ts';
import { silentLog } from '../../src/observe/log.ts';
import { StoreLocked } from '../../src/store/pack-index.ts';
import type { Damage, PackStoreOptions } from '../../src/store/pack-options.ts';
import { PackStore } from '../../src/store/pack-store.ts';
import { StoreFull } from '../../src/store/pack-writer.ts';
import { describeChunkStore } from '../conformance/chunk-store.ts';
import { MemoryStore } from '../fakes/memory-store.ts';

const { signal } = new AbortController();
let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'bm-store-'));
});
after(() => rm(root, { recursive: true, force: true }));

const fresh = () => mkdtemp(join(root, 'store-'));
const openStore = (directory: string, options?: PackStoreOptions) =>
  PackStore.open(directory, { log: silentLog }, options);

describeChunkStore('MemoryStore', async () => new MemoryStore());
describeChunkStore('PackStore', async () => openStore(await fresh()));

async function fill(store: PackStore, count: number, size = 10_000): Promise<{ cid: CID; bytes: Buffer }[]> {
  const chunks = Array.from({ length: count }, () => {
    const bytes = randomBytes(size);
    return { cid: chunkCid(bytes), bytes };
  });
  await Promise.all(chunks.map(({ cid, bytes }) => store.put(cid, bytes)));
  return chunks;
}

async function segmentFiles(directory: string): Promise<string[]> {
  const names = await readdir(join(directory, 'segments'));
  return names.sort().map((name) => join(directory, 'segments', name));
}

async function flipByte(file: string, offset: number): Promise<void> {
  await using handle = await open(file, 'r+');
  const byte = Buffer.alloc(1);
  await handle.read(byte, 0, 1, offset);
  byte[0] = (byte[0] as number) ^ 1;
  await handle.write(byte, 0, 1, offset);
}

async function present(store: PackStore, chunks: readonly { cid: CID }[]): Promise<number> {
  const found = await Promise.all(chunks.map(({ cid }) => store.get(cid, { signal })));
  return found.filter(Boolean).length;
}

describe('PackStore', () => {
  it('has what it had after it is opened again, over many segments', async () => {
    const directory = await fresh();
    const options = { segmentBytes: 100_000 };
    let chunks: { cid: CID; bytes: Buffer }[];
    {
      await using store = await openStore(directory, options);
      chunks = await fill(store, 500);
    }
    await using store = await openStore(directory, options);
    assert.ok(store.stats().segments >= 5);
    assert.equal(await present(store, chunks), 500);
    assert.deepEqual(await store.verify({ signal }), { chunks: 500, bytes: 5_000_000, damaged: [] });
    const descriptors = (await readdir('/proc/self/fd')).length;
    assert.ok(descriptors < 100, `${descriptors} open files`);
  });

  it('writes equal chunks once, also when they are put at the same time', async () => {
    await using store = await openStore(await fresh());
    const [chunk] = await fill(store, 1);
    assert.ok(chunk);
    const { diskBytes } = store.stats();
    await Promise.all([1, 2, 3].map(() => store.put(chunk.cid, chunk.bytes)));
    assert.equal(store.stats().diskBytes, diskBytes);
  });

  it('refuses a chunk that is too large, or whose hash it cannot check', async () => {
    await using store = await openStore(await fresh());
    const large = new Uint8Array(1024 * 1024 + 1);
    await assert.rejects(store.put(chunkCid(large), large), RangeError);
  });

  it('takes nothing more when the disk is full but for the reserve, and still reads', async () => {
    const directory = await fresh();
    let chunks: { cid: CID; bytes: Buffer }[];
    {
      await using store = await openStore(directory);
      chunks = await fill(store, 2);
    }
    await using store = await openStore(directory, { reserveBytes: Number.MAX_SAFE_INTEGER });
    await assert.rejects(fill(store, 3), StoreFull);
    assert.equal(await present(store, chunks), 2);
    assert.equal(store.stats().chunks, 2);
  });

  it('says who has it when it is open already', async () => {
    const directory = await fresh();
    await using _store = await openStore(directory);
    await assert.rejects(
      openStore(directory),
      (error) => error instanceof StoreLocked && error.message.includes(directory),
    );
  });

  it('syncs after the set time by itself, and says what is on disk', async () => {
    const synced = Promise.withResolvers<{ file: string; bytes: number }>();
    await using store = await openStore(await fresh(), { syncMilliseconds: 5, onSync: synced.resolve });
    await fill(store, 3);
    const { file, bytes } = await synced.promise;
    assert.equal((await stat(file)).size, bytes);
  });
});

describe('a chunk that is kept as a zstd frame', () => {
  const text = Buffer.from('every machine that has booted can boot the next one. '.repeat(500));
  const cid = chunkCid(text);
  const options = { segmentBytes: 100_000, graceSeconds: -1 };

  async function fillMixed(directory: string): Promise<{ cid: CID; bytes: Buffer }[]> {
    await using store = await openStore(directory, options);
    await store.put(cid, text, await compressed(text));
    const chunks = [{ cid, bytes: text }, ...(await fill(store, 12))];
    assert.ok(store.stats().bytes < 120_000 + 1000, 'kept as a frame');
    return chunks;
  }

  async function check(store: PackStore, chunks: readonly { cid: CID; bytes: Buffer }[]): Promise<void> {
    for (const chunk of chunks) {
      assert.deepEqual(Buffer.from((await store.get(chunk.cid, { signal })) ?? ''), chunk.bytes);
      const kept = (await store.encoded(chunk.cid, { signal, zstd: true })) ?? assert.fail();
      const plain = (await store.encoded(chunk.cid, { signal, zstd: false })) ?? assert.fail();
      assert.equal(kept.encoding, chunk.cid === cid ? 'zstd' : 'plain');
      assert.equal(plain.encoding, 'plain');
      assert.deepEqual(Buffer.from(plain.bytes), chunk.bytes);
      const size = chunk.bytes.length;
      if (kept.encoding === 'zstd') assert.deepEqual(await decompressed(kept.bytes, size), chunk.bytes);
    }
    assert.deepEqual((await store.verify({ signal })).damaged, []);
  }

  it('reads plain, is sent as it is kept, and stays so through restart, rebuild and compaction', async () => {
    const directory = await fresh();
    const chunks = await fillMixed(directory);
    {
      await using store = await openStore(directory, options);
      await check(store, chunks);
    }
    await rm(join(directory, 'index.v1'), { recursive: true });
    await using store = await openStore(directory, options);
    await check(store, chunks);
    const half = chunks.slice(0, 7);
    using _hold = store.hold(
      new ChunkSet(
        cid,
        half.map((chunk) => ({ cid: chunk.cid, size: chunk.bytes.length })),
      ),
    );
    const { freedBytes, evictedChunks } = await store.gc({ signal, lowBytes: 0 });
    assert.ok(freedBytes > 0 && evictedChunks > 0);
    await check(store, half);
  });

  it('is dropped when a byte of it changed, by either way of reading', async () => {
    for (const read of ['get', 'encoded'] as const) {
      const directory = await fresh();
      await fillMixed(directory);
      await flipByte((await segmentFiles(directory))[0] as string, 28 + 62 + 40);
      const damage: Damage[] = [];
      await using store = await openStore(directory, { onDamage: (found) => void damage.push(found) });
      assert.equal(await store[read](cid, { signal, zstd: true }), undefined);
      assert.deepEqual([damage.length, await store.has(cid)], [1, false]);
    }
  });

  it('is not believed: a frame of other bytes is found by get, and larger ones are not kept', async () => {
    await using store = await openStore(await fresh());
    await store.put(cid, text, await compressed(Buffer.from('a text that is something else. '.repeat(1000))));
    assert.equal(await store.get(cid, { signal }), undefined);
    const [bytes, frame] = [randomBytes(100), randomBytes(101)];
    await store.put(chunkCid(bytes), bytes, { encoding: 'zstd', bytes: frame });
    assert.deepEqual(Buffer.from((await store.get(chunkCid(bytes), { signal })) ?? ''), bytes);
  });

  it('lies beside records of the first version, which have no checksum', async () => {
    const directory = await fresh();
    const bytes = randomBytes(5000);
    const old = chunkCid(bytes);
    const header = Buffer.concat([
      Buffer.from('424d5231010000220000005500001388000013881220', 'hex'),
      old.multihash.digest,
      Buffer.alloc(4),
    ]);
    header.writeUInt32BE(crc32(header.subarray(0, -4)), header.length - 4);
    const chunks = await fillMixed(directory);
    await writeFile((await segmentFiles(directory)).at(-1) as string, Buffer.concat([header, bytes]), { flag: 'a' });
    await using store = await openStore(directory, options);
    await check(store, [...chunks, { cid: old, bytes }]);
  });
});

describe('a damaged segment', () => {
  for (const [what, offset] of Object.entries({ payload: 500, header: 10 })) {
    it(`is named by verify when a ${what} byte changed, and read like a missing chunk`, async () => {
      const directory = await fresh();
      const damage: Damage[] = [];
      await using store = await openStore(directory, { onDamage: (found) => void damage.push(found) });
      const chunks = await fill(store, 3);
      const [file] = await segmentFiles(directory);
      assert.ok(file);
      const second = 28 + (62 + 10_000);
      await flipByte(file, second + offset);
      const report = await store.verify({ signal });
      assert.deepEqual(damage, report.damaged);
      assert.deepEqual(
        damage.map((found) => ({ ...found, cid: String(found.cid) })),
        [{ cid: String(chunks[1]?.cid), file, offset: second }],
      );
      assert.equal(await store.has(chunks[1]?.cid as CID), false);
      assert.equal(await present(store, chunks), 2);
    });
  }

  it('is refetched through the ladder, and right from then on', async () => {
    const directory = await fresh();
    const damage: Damage[] = [];
    const options = { onDamage: (found: Damage) => void damage.push(found) };
    const neighbour = new MemoryStore();
    let chunks: { cid: CID; bytes: Buffer }[];
    {
      await using store = await openStore(directory, options);
      chunks = await fill(store, 3);
      for (const { cid, bytes } of chunks) await neighbour.put(cid, bytes);
      await flipByte((await segmentFiles(directory))[0] as string, 28 + 2000);
      const ladder = cached(store, neighbour);
      for (const { cid, bytes } of chunks) {
        assert.deepEqual(Buffer.from((await ladder.get(cid, { signal })) ?? ''), bytes);
      }
      assert.deepEqual([damage.length, neighbour.asked.length], [1, 1]);
      assert.equal(await present(store, chunks), 3);
    }
    await using store = await openStore(directory, options);
    assert.equal(await present(store, chunks), 3);
    assert.deepEqual((await store.verify({ signal })).damaged, []);
  });
});

describe('PackStore.open, after', () => {
  let template = '';
  let chunks: { cid: CID; bytes: Buffer }[] = [];
  let tail: { cid: CID; bytes: Buffer }[] = [];

  /** A store as a killed process leaves it: five chunks synced and indexed, five more only in the file. */
  before(async () => {
    template = join(root, 'template');
    const directory = await fresh();
    await using store = await openStore(directory, { syncMilliseconds: 1e6 });
    chunks = await fill(store, 5);
    await store.flush();
    tail = await fill(store, 5);
    await cp(directory, template, { recursive: true });
  });

  const cases: Record<string, { hurt: (directory: string, segment: string) => Promise<void>; kept: number }> = {
    'a kill': { hurt: async () => {}, kept: 10 },
    'a torn last record': { hurt: (_, segment) => truncate(segment, 28 + 9 * 10_062 + 5000), kept: 9 },
    'a torn last header': { hurt: (_, segment) => truncate(segment, 28 + 9 * 10_062 + 30), kept: 9 },
    'a tail cut at the last sync': { hurt: (_, segment) => truncate(segment, 28 + 5 * 10_062), kept: 5 },
    'a zeroed tail': { hurt: (_, segment) => zero(segment, 28 + 6 * 10_062 + 100), kept: 6 },
    'a hole of zeros in the tail': { hurt: (_, segment) => zero(segment, 28 + 6 * 10_062 + 100, 4096), kept: 9 },
    'a tail of noise': { hurt: (_, segment) => writeFile(segment, randomBytes(50_000), { flag: 'a' }), kept: 10 },
    'synced bytes were lost after all': { hurt: (_, segment) => truncate(segment, 28 + 3 * 10_062 + 7), kept: 3 },
    'the loss of the index': { hurt: (directory) => rm(join(directory, 'index.v1'), { recursive: true }), kept: 10 },
    'damage to the index': { hurt: breakIndex, kept: 10 },
    'damage to the segment header': { hurt: (_, segment) => zero(segment, 0, 28), kept: 10 },
    'a segment that was made but never written': {
      hurt: (directory) => writeFile(join(directory, 'segments/00000002.segment'), ''),
      kept: 10,
    },
  };
  for (const [what, { hurt, kept }] of Object.entries(cases)) {
    it(`${what}: keeps ${kept} of 10 chunks, serves nothing wrong, and goes on`, async () => {
      const directory = await fresh();
      await cp(template, directory, { recursive: true });
      await hurt(directory, join(directory, 'segments/00000001.segment'));
      const all = [...chunks, ...tail];
      for (const round of [1, 2]) {
        await using store = await openStore(directory);
        assert.equal(store.stats().chunks, round === 1 ? kept : 10);
        assert.equal(await present(store, all), round === 1 ? kept : 10);
        assert.deepEqual((await store.verify({ signal })).damaged, []);
        for (const { cid, bytes } of all) await store.put(cid, bytes);
      }
    });
  }
});

async function zero(file: string, from: number, length?: number): Promise<void> {
  const { size } = await stat(file);
  const zeros = Buffer.alloc(length ?? size - from);
  await using handle = await open(file, 'r+');
  await handle.write(zeros, 0, zeros.length, from);
}

async function breakIndex(directory: string): Promise<void> {
  const index = join(directory, 'index.v1');
  for (const name of await readdir(index)) {
    if (name.startsWith('MANIFEST')) await writeFile(join(index, name), randomBytes(200));
  }
}
