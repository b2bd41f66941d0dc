import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { chunkCid } from '../../src/content/chunk.ts';
import type { ChunkSource } from '../../src/content/chunk-source.ts';

const { signal } = new AbortController();

/** What every `ChunkSource` does. `open` makes one that has `chunk` (a raw one) and nothing else. */
export function describeChunkSource(name: string, open: (chunk: Uint8Array) => Promise<ChunkSource>): void {
  describe(`${name}, as a chunk source`, () => {
    const chunk = randomBytes(2000);
    const cid = chunkCid(chunk);

    it('gives the chunk that it has, once and again', async () => {
      const source = await open(chunk);
      for (let i = 0; i < 2; i++) assert.deepEqual(Buffer.from((await source.get(cid, { signal })) ?? ''), chunk);
    });

    it('gives it to many at once', async () => {
      const source = await open(chunk);
      const all = await Promise.all(Array.from({ length: 10 }, () => source.get(cid, { signal })));
      for (const bytes of all) assert.deepEqual(Buffer.from(bytes ?? ''), chunk);
    });

    it('rejects with the reason of an aborted signal', async () => {
      const source = await open(chunk);
      const reason = new Error('enough');
      await assert.rejects(source.get(cid, { signal: AbortSignal.abort(reason) }), reason);
    });
  });
}
