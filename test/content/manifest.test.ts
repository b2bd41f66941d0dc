import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { encode } from '@ipld/dag-pb';
import fc from 'fast-check';
import { UnixFS } from 'ipfs-unixfs';
import type { CID } from 'multiformats/cid';
import { type ChunkRef, chunkCid, DAG_PB, RAW } from '../../src/content/chunk.ts';
import { CorruptChunk } from '../../src/content/chunk-source.ts';
import { type Leaf, MissingChunk, manifestOf, readManifest } from '../../src/content/manifest.ts';
import { decodeNode, FAN_OUT, InvalidManifest, layOut } from '../../src/content/unixfs-node.ts';
import { MemoryStore } from '../fakes/memory-store.ts';

const { signal } = new AbortController();
const line = ({ cid, size, offset }: Leaf) => `${offset} ${size} ${cid}`;

function leavesOf(count: number, size = 1000): ChunkRef[] {
  return Array.from({ length: count }, (_, i) => ({ cid: chunkCid(Buffer.from(`leaf ${i}`)), size: size + (i % 7) }));
}

interface Link {
  readonly cid: CID;
  readonly size: number;
}

/** Puts a node that says what it is told to say. */
async function putNode(
  store: MemoryStore,
  links: readonly Link[],
  options: { type?: 'directory'; data?: Buffer } = {},
) {
  const file = new UnixFS({
    type: options.type ?? 'file',
    blockSizes: links.map((link) => BigInt(link.size)),
    ...(options.data && { data: options.data }),
  });
  const bytes = encode({ Data: file.marshal(), Links: links.map(({ cid }) => ({ Name: '', Tsize: 0, Hash: cid })) });
  const cid = chunkCid(bytes, DAG_PB);
  await store.put(cid, bytes);
  return cid;
}

const leaf = { cid: chunkCid(Buffer.from('leaf')), size: 4 };

describe('readManifest', () => {
  it('reads what layOut wrote, at every depth', async () => {
    for (const count of [0, 1, 2, FAN_OUT, FAN_OUT + 1, 3000]) {
      const store = new MemoryStore();
      const leaves = leavesOf(count);
      const nodes = layOut(leaves);
      for (const node of nodes) await store.put(node.cid, node.bytes);
      const written = manifestOf(leaves, nodes);
      const read = await readManifest(written.cid, store, { signal });
      assert.equal(
        read.size,
        leaves.reduce((sum, { size }) => sum + size, 0),
      );
      assert.deepEqual(read.leaves.map(line), written.leaves.map(line));
      assert.deepEqual(new Set(read.nodes.map(String)), new Set(written.nodes.map(String)));
      assert.equal(read.set.chunks.length, count);
    }
  });

  it('reads trees of other shapes: leaves at different depths', async () => {
    const store = new MemoryStore();
    const inner = await putNode(store, [leaf, leaf]);
    const root = await putNode(store, [leaf, { cid: inner, size: 8 }, leaf]);
    const manifest = await readManifest(root, store, { signal });
    assert.deepEqual(
      manifest.leaves.map(({ offset }) => offset),
      [0, 4, 8, 12],
    );
    assert.equal(manifest.set.chunks.length, 1);
  });

  const wrong: Record<string, (store: MemoryStore) => Promise<CID>> = {
    'children that do not add up': async (store) => {
      const inner = await putNode(store, [leaf, leaf]);
      return await putNode(store, [{ cid: inner, size: 9 }]);
    },
    'one chunk with two sizes': (store) => putNode(store, [leaf, { ...leaf, size: 5 }]),
    'a leaf over the limit': (store) => putNode(store, [{ ...leaf, size: 1024 * 1024 + 1 }]),
    'an empty leaf': (store) => putNode(store, [{ ...leaf, size: 0 }]),
    'bytes inside a node': (store) => putNode(store, [leaf], { data: Buffer.from('hi') }),
    'a directory': (store) => putNode(store, [], { type: 'directory' }),
    'a leaf of another codec': (store) => putNode(store, [{ cid: chunkCid(Buffer.from('{}'), 0x71), size: 2 }]),
    'sizes that overflow': async (store) => {
      const inner = await putNode(store, [leaf]);
      return await putNode(
        store,
        Array.from({ length: 3 }, () => ({ cid: inner, size: Number.MAX_SAFE_INTEGER })),
      );
    },
    'a tree that is too deep': async (store) => {
      let node: Link = { cid: await putNode(store, [leaf]), size: 4 };
      for (let i = 0; i < 6; i++) node = { cid: await putNode(store, [node]), size: 4 };
      return node.cid;
    },
    'a small tree that unfolds into millions of leaves': async (store) => {
      let node: Link = {
        cid: await putNode(
          store,
          Array.from({ length: 200 }, () => leaf),
        ),
        size: 800,
      };
      for (let i = 0; i < 3; i++) {
        const { size } = node;
        const same = node;
        node = {
          cid: await putNode(
            store,
            Array.from({ length: 200 }, () => same),
          ),
          size: size * 200,
        };
      }
      return node.cid;
    },
  };
  for (const [name, build] of Object.entries(wrong)) {
    it(`refuses ${name}`, async () => {
      const store = new MemoryStore();
      await assert.rejects(readManifest(await build(store), store, { signal }), InvalidManifest);
      assert.ok(store.asked.length < 20_000);
    });
  }

  it('names a raw root, a missing node and a wrong one', async () => {
    const store = new MemoryStore();
    await assert.rejects(readManifest(leaf.cid, store, { signal }), InvalidManifest);
    const missing = chunkCid(randomBytes(9), DAG_PB);
    await assert.rejects(readManifest(missing, store, { signal }), MissingChunk);
    await store.put(missing, randomBytes(9));
    await assert.rejects(readManifest(missing, store, { signal }), CorruptChunk);
  });

  it('survives any bytes as a node: a list of children, or InvalidManifest', () => {
    const node = layOut(leavesOf(5)).at(-1)?.bytes ?? new Uint8Array();
    const cid = chunkCid(node, DAG_PB);
    const edits = fc.array(fc.tuple(fc.nat(node.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 });
    const mutated = edits.map((list) => {
      const bytes = Uint8Array.from(node);
      for (const [at, value] of list) bytes[at] = value;
      return bytes;
    });
    fc.assert(
      fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 300 })), (bytes) => {
        try {
          for (const child of decodeNode(cid, bytes)) {
            assert.ok(child.size >= 1 && [RAW, DAG_PB].includes(child.cid.code));
          }
        } catch (error) {
          assert.ok(error instanceof InvalidManifest, String(error));
        }
      }),
      { numRuns: 20_000 },
    );
  });
});
