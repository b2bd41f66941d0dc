import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { chunkCid, DAG_PB } from '../../src/content/chunk.ts';
import type { ChunkStore } from '../../src/content/chunk-source.ts';

const { signal } = new AbortController();

/** What every `ChunkStore` does. `open` makes an empty one, which the suite disposes of when it can be. */
export function describeChunkStore(name: string, open: () => Promise<ChunkStore & Partial<AsyncDisposable>>): void {
  const withStore = (test: (store: ChunkStore) => Promise<void>) => async () => {
    const store = await open();
    try {
      await test(store);
    } finally {
      await store[Symbol.asyncDispose]?.();
    }
  };

  describe(`${name}, as a chunk store`, () => {
    it(
      'gives back what it was given, and only that',
      withStore(async (store) => {
        const bytes = randomBytes(100_000);
        const cid = chunkCid(bytes);
        assert.equal(await store.has(cid), false);
        assert.equal(await store.get(cid, { signal }), undefined);
        await store.put(cid, bytes);
        assert.equal(await store.has(cid), true);
        assert.deepEqual(Buffer.from((await store.get(cid, { signal })) ?? ''), bytes);
        assert.equal(await store.has(chunkCid(randomBytes(8))), false);
      }),
    );

    it(
      'keeps its bytes when the caller changes theirs afterwards',
      withStore(async (store) => {
        const bytes = randomBytes(5000);
        const before = Buffer.from(bytes);
        const cid = chunkCid(bytes);
        await store.put(cid, bytes);
        bytes.fill(0);
        assert.deepEqual(Buffer.from((await store.get(cid, { signal })) ?? ''), before);
      }),
    );

    it(
      'takes the same chunk many times at once, empty chunks, and manifest nodes',
      withStore(async (store) => {
        const bytes = randomBytes(3000);
        const cid = chunkCid(bytes, DAG_PB);
        await Promise.all(Array.from({ length: 20 }, () => store.put(cid, bytes)));
        await store.put(chunkCid(new Uint8Array()), new Uint8Array());
        assert.equal((await store.get(cid, { signal }))?.length, 3000);
        assert.equal((await store.get(chunkCid(new Uint8Array()), { signal }))?.length, 0);
      }),
    );

    it(
      'rejects with the reason of an aborted signal',
      withStore(async (store) => {
        const reason = new Error('enough');
        await assert.rejects(store.get(chunkCid(randomBytes(8)), { signal: AbortSignal.abort(reason) }), reason);
      }),
    );
  });
}
