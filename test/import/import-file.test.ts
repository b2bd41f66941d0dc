import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { crc32 } from 'node:zlib';
import { decode } from '@ipld/dag-pb';
import { UnixFS } from 'ipfs-unixfs';
import { CID } from 'multiformats/cid';
import { seeded, seededBytes } from '../../bench/store-crash/random.ts';
import { chunkCid, chunkKey, RAW } from '../../src/content/chunk.ts';
import type { Encoded } from '../../src/content/chunk-source.ts';
import { Chunker } from '../../src/content/chunker.ts';
import { decompressed } from '../../src/content/compression.ts';
import { type Leaf, readManifest } from '../../src/content/manifest.ts';
import { readArtifact } from '../../src/content/read-artifact.ts';
import { importFile } from '../../src/import/import-file.ts';
import { MemoryStore } from '../fakes/memory-store.ts';

const { signal } = new AbortController();
const line = ({ cid, size, offset }: Leaf) => `${offset} ${size} ${cid}`;
const small = new Chunker({ min: 1024, average: 2048, max: 8192 });

async function seededFile(directory: string, seed: string, bytes: number) {
  const path = join(directory, seed);
  await writeFile(path, seededBytes(seed, bytes));
  return { path, bytes };
}

async function* pieces(bytes: Uint8Array, size: () => number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + Math.max(1, Math.floor(size())));
    yield bytes.subarray(at, end);
    at = end;
  }
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(Uint8Array.from(part));
  return Buffer.concat(parts);
}

/** Offset, size and CID of the chunks of `bytes`, cut from the beginning to the end. */
function cutAll(bytes: Uint8Array, chunker: Chunker): [number, number, string][] {
  const chunks: [number, number, string][] = [];
  for (let start = 0; start < bytes.length; ) {
    const end = chunker.cut(bytes, start, bytes.length);
    chunks.push([start, end - start, String(chunkCid(bytes.subarray(start, end)))]);
    start = end;
  }
  return chunks;
}

describe('importFile', () => {
  let directory = '';
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bm-import-'));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  it('makes the CID that it always made', async () => {
    const { path } = await seededFile(directory, 'golden', 9_000_000);
    const store = new MemoryStore();
    assert.equal(
      String((await importFile(path, store, { signal })).cid),
      'bafybeigythv5a7bylmlkgojg6zptnexpexnm6gjx4ooh3jftshlsmv4wti',
    );
    const halves = new Chunker({ min: 32 * 1024, average: 64 * 1024, max: 256 * 1024 });
    assert.equal(
      String((await importFile(path, store, { signal, chunker: halves })).cid),
      'bafybeibczryyjgp6huc6oe3dt53z5n45gqergpukwgbscildyirqoxab3u',
    );
    // More than FAN_OUT leaves: two levels of nodes.
    assert.equal(
      String((await importFile(path, store, { signal, chunker: small })).cid),
      'bafybeigsnnythbfpz3m5nrykvstejtq6e7v5muyjadzghnhinre2un5gty',
    );
  });

  it("names the empty file as kubo does (--cid-version 1, without raw leaves' shortcut)", async () => {
    const { cid, size, leaves } = await importFile(
      pieces(new Uint8Array(), () => 1),
      new MemoryStore(),
      { signal },
    );
    const kubo = CID.parse('QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH');
    assert.deepEqual(Buffer.from(cid.multihash.digest), Buffer.from(kubo.multihash.digest));
    assert.deepEqual([size, leaves.length], [0, 0]);
  });

  it('writes standard UnixFS: sizes, names and Tsizes as another reader expects them', async () => {
    const { path, bytes } = await seededFile(directory, 'unixfs', 5_000_000);
    const store = new MemoryStore();
    const { cid } = await importFile(path, store, { signal, chunker: small });
    const walk = async (at: CID): Promise<{ content: number; total: number }> => {
      const block = (await store.get(at, { signal })) ?? assert.fail(`${at} is missing`);
      if (at.code === RAW) return { content: block.length, total: block.length };
      const node = decode(block);
      const file = UnixFS.unmarshal(node.Data ?? assert.fail());
      assert.equal(file.type, 'file');
      const below = await Promise.all(node.Links.map((link) => walk(link.Hash)));
      assert.deepEqual(
        file.blockSizes.map(Number),
        below.map(({ content }) => content),
      );
      assert.deepEqual(
        node.Links.map((link) => link.Tsize),
        below.map(({ total }) => total),
      );
      assert.ok(node.Links.every((link) => link.Name === ''));
      const total = below.reduce((sum, child) => sum + child.total, block.length);
      return { content: Number(file.fileSize()), total };
    };
    assert.equal((await walk(cid)).content, bytes);
  });

  it('cuts the same from a file and from a stream of any pieces', async () => {
    const { path } = await seededFile(directory, 'stream', 9_500_000);
    const store = new MemoryStore();
    const random = seeded('pieces');
    const fromFile = await importFile(path, store, { signal });
    const bytes = await collect(readArtifact(fromFile, store, { signal }));
    const fromStream = await importFile(
      pieces(bytes, () => random() * 700_000),
      store,
      { signal },
    );
    assert.ok(fromFile.cid.equals(fromStream.cid));
    const again = await readManifest(fromFile.cid, store, { signal });
    assert.deepEqual(again.leaves.map(line), fromFile.leaves.map(line));
  });

  it('cuts on other threads where one thread cuts, from a file and from a stream', async () => {
    const random = seeded('threads');
    const noise = seededBytes('threads', 60_000_000);
    const zeros = Buffer.alloc(13_000_001);
    const period = Buffer.alloc(11_000_000, seededBytes('period', 100_001));
    // Runs that no two cuttings ever agree in, across the ends of small and large regions.
    const parts = [noise.subarray(0, 5_000_001), zeros, noise.subarray(6_000_000, 45_000_000), period, zeros, noise];
    const bytes = Buffer.concat(parts);
    const path = join(directory, 'threads');
    await writeFile(path, bytes);
    const expected = cutAll(bytes, new Chunker());
    for (const source of [path, pieces(bytes, () => random() * 3_000_000)]) {
      const store = new MemoryStore();
      const { leaves } = await importFile(source, store, { signal, ownThreadBytes: 0 });
      assert.deepEqual(
        leaves.map(({ offset, size, cid }) => [offset, size, String(cid)]),
        expected,
      );
      assert.ok(leaves.every(({ cid }) => store.chunks.has(chunkKey(cid))));
    }
  });

  it('gives the store frames of what compresses, and checksums of the rest', async () => {
    const bytes = Buffer.concat([Buffer.alloc(3_000_000, 'boots. '), seededBytes('mixed', 6_000_000)]);
    const given: { plain: Buffer; encoded: Encoded }[] = [];
    const store = new MemoryStore();
    const keep = store.put.bind(store);
    store.put = async (cid: CID, plain: Uint8Array, encoded?: Encoded) => {
      if (encoded)
        given.push({ plain: Buffer.from(plain), encoded: { ...encoded, bytes: Buffer.from(encoded.bytes) } });
      await keep(cid, plain);
    };
    for (const ownThreadBytes of [0, bytes.length]) {
      store.chunks.clear();
      given.length = 0;
      await importFile(
        pieces(bytes, () => 1_000_000),
        store,
        { signal, ownThreadBytes },
      );
      const frames = given.filter(({ encoded }) => encoded.encoding === 'zstd');
      assert.ok(frames.length > 0 && given.length > frames.length + 20);
      for (const { plain, encoded } of given) {
        assert.equal(encoded.crc32, crc32(encoded.bytes));
        const back = encoded.encoding === 'zstd' ? await decompressed(encoded.bytes, plain.length) : encoded.bytes;
        assert.ok(plain.equals(back ?? assert.fail()));
      }
    }
  });

  it('stores equal chunks once, and reports how far it is', async () => {
    const seen: number[] = [];
    const store = new MemoryStore();
    const zeros = new Uint8Array(9 * 1024 * 1024);
    const onProgress = ({ bytes }: { bytes: number }) => void seen.push(bytes);
    const manifest = await importFile(
      pieces(zeros, () => 100_000),
      store,
      { signal, onProgress },
    );
    assert.equal(manifest.set.chunks.length, 1);
    assert.equal(manifest.size, zeros.length);
    assert.equal(seen.at(-1), zeros.length);
    assert.deepEqual(
      seen,
      [...seen].sort((a, b) => a - b),
    );
  });

  it('rejects with what the store, the source or the signal rejects with', async () => {
    const { path } = await seededFile(directory, 'failures', 6_000_000);
    const full = new Error('disk full');
    const store = new MemoryStore();
    store.put = async () => Promise.reject(full);
    await assert.rejects(importFile(path, store, { signal }), full);
    await assert.rejects(importFile(join(directory, 'nothing'), store, { signal }), { code: 'ENOENT' });
    const reason = new Error('stop');
    const aborted = importFile(path, new MemoryStore(), { signal: AbortSignal.abort(reason) });
    await assert.rejects(aborted, reason);
    // Threads that cut are gone with it.
    await assert.rejects(importFile(path, store, { signal, ownThreadBytes: 0 }), full);
    await assert.rejects(importFile(directory, new MemoryStore(), { signal, ownThreadBytes: 0 }), { code: 'EISDIR' });
  });
});
