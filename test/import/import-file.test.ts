import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { decode } from '@ipld/dag-pb';
import { UnixFS } from 'ipfs-unixfs';
import { CID } from 'multiformats/cid';
import { seeded, seededBytes } from '../../bench/store-crash/random.ts';
import { RAW } from '../../src/content/chunk.ts';
import { Chunker } from '../../src/content/chunker.ts';
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
  });
});
