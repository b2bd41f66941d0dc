import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { CID } from 'multiformats/cid';
import { type ChunkSource, CorruptChunk } from '../../src/content/chunk-source.ts';
import { Chunker } from '../../src/content/chunker.ts';
import { MissingChunk } from '../../src/content/manifest.ts';
import { readArtifact } from '../../src/content/read-artifact.ts';
import { importFile } from '../../src/import/import-file.ts';
import { MemoryStore } from '../fakes/memory-store.ts';

const { signal } = new AbortController();
const file = randomBytes(150_000);
const store = new MemoryStore();
const chunker = new Chunker({ min: 1024, average: 4096, max: 16384 });
const manifest = await importFile(
  (async function* () {
    yield file;
  })(),
  store,
  { signal, chunker },
);

async function read(range: { start?: number; end?: number; window?: number }, source: ChunkSource = store) {
  const parts: Uint8Array[] = [];
  for await (const part of readArtifact(manifest, source, { ...range, signal })) parts.push(part);
  return Buffer.concat(parts);
}

describe('readArtifact', () => {
  it('reads any range, with any window', async () => {
    const at = fc.nat(file.length);
    await fc.assert(
      fc.asyncProperty(at, at, fc.nat(60_000), async (a, b, window) => {
        const [start, end] = [Math.min(a, b), Math.max(a, b)];
        assert.ok((await read({ start, end, window })).equals(file.subarray(start, end)));
      }),
      { numRuns: 300 },
    );
    assert.ok((await read({})).equals(file));
    assert.ok((await read({ start: file.length })).equals(Buffer.alloc(0)));
  });

  it('refuses ranges outside the file', async () => {
    for (const range of [{ start: -1 }, { end: file.length + 1 }, { start: 9, end: 8 }, { start: Number.NaN }]) {
      await assert.rejects(read(range), RangeError);
    }
  });

  it('asks for no more than its window ahead of a slow consumer, and for at least one chunk', async () => {
    for (const window of [0, 30_000]) {
      let asked = 0;
      const counting: ChunkSource = {
        get: (cid, options) => {
          asked += manifest.leaves.find((leaf) => leaf.cid.equals(cid))?.size ?? 0;
          return store.get(cid, options);
        },
      };
      let seen = 0;
      for await (const part of readArtifact(manifest, counting, { signal, window })) {
        seen += part.length;
        await new Promise(setImmediate);
        const ahead = asked - (seen - part.length);
        assert.ok(ahead <= Math.max(window, 16384), `${ahead} bytes ahead`);
      }
      assert.equal(seen, file.length);
    }
  });

  it('streams what is there while the rest is still arriving', async () => {
    const gates = new Map<string, PromiseWithResolvers<void>>();
    const arriving: ChunkSource = {
      async get(cid: CID, options) {
        const gate = Promise.withResolvers<void>();
        gates.set(String(cid), gate);
        await gate.promise;
        return await store.get(cid, options);
      },
    };
    const reader = readArtifact(manifest, arriving, { signal });
    for (const leaf of manifest.leaves.slice(0, 5)) {
      const next = reader.next();
      await new Promise(setImmediate);
      gates.get(String(leaf.cid))?.resolve();
      assert.equal((await next).value?.length, leaf.size);
    }
    for (const gate of gates.values()) gate.resolve();
    await reader.return();
  });

  it('gives up what it asked for ahead when the consumer leaves', async () => {
    const signals: AbortSignal[] = [];
    const source: ChunkSource = {
      get: (cid, options) => {
        signals.push(options.signal);
        return signals.length === 1 ? store.get(cid, options) : new Promise(() => {});
      },
    };
    for await (const _part of readArtifact(manifest, source, { signal })) break;
    assert.ok(signals.length > 1 && signals.every((each) => each.aborted));
  });

  it('names what is missing, and a manifest that lies about sizes', async () => {
    await assert.rejects(read({}, new MemoryStore()), MissingChunk);
    const short: ChunkSource = { get: async (cid, options) => (await store.get(cid, options))?.subarray(1) };
    await assert.rejects(read({}, short), CorruptChunk);
  });
});
