import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import type { CID } from 'multiformats/cid';
import { cached } from '../../src/content/cached.ts';
import { chunkCid } from '../../src/content/chunk.ts';
import { type ChunkSource, CorruptChunk } from '../../src/content/chunk-source.ts';
import { coalesced } from '../../src/content/coalesced.ts';
import { firstOf, SourcesFailed } from '../../src/content/first-of.ts';
import { verified } from '../../src/content/verified.ts';
import { describeChunkSource } from '../conformance/chunk-source.ts';
import { MemoryStore } from '../fakes/memory-store.ts';

const { signal } = new AbortController();
const bytes = randomBytes(500);
const cid = chunkCid(bytes);

async function storeWith(...chunks: Uint8Array[]): Promise<MemoryStore> {
  const store = new MemoryStore();
  for (const chunk of chunks) await store.put(chunkCid(chunk), chunk);
  return store;
}

/** A source whose answers the test gives. */
class Slow implements ChunkSource {
  readonly calls: { cid: CID; signal: AbortSignal; answer: PromiseWithResolvers<Uint8Array | undefined> }[] = [];

  get(of: CID, options: { signal: AbortSignal }): Promise<Uint8Array | undefined> {
    const answer = Promise.withResolvers<Uint8Array | undefined>();
    options.signal.addEventListener('abort', () => answer.reject(options.signal.reason), { once: true });
    this.calls.push({ cid: of, signal: options.signal, answer });
    return answer.promise;
  }
}

const failing = (error: Error): ChunkSource => ({ get: async () => Promise.reject(error) });
const lying: ChunkSource = { get: async () => randomBytes(500) };

describeChunkSource('cached', async (chunk) => cached(new MemoryStore(), await storeWith(chunk)));
describeChunkSource('coalesced', async (chunk) => coalesced(await storeWith(chunk)));
describeChunkSource('firstOf', async (chunk) => firstOf([new MemoryStore(), await storeWith(chunk)]));
describeChunkSource('verified', async (chunk) => verified(await storeWith(chunk), 'here'));
describeChunkSource('the whole ladder', async (chunk) => {
  const sources = [verified(lying, 'a liar'), verified(await storeWith(chunk), 'a friend')];
  return cached(new MemoryStore(), coalesced(firstOf(sources)), {});
});

describe('cached', () => {
  it('keeps what it fetched, and asks no more', async () => {
    const store = new MemoryStore();
    const source = await storeWith(bytes);
    const ladder = cached(store, source);
    await ladder.get(cid, { signal });
    await ladder.get(cid, { signal });
    assert.equal(source.asked.length, 1);
    assert.ok(await store.has(cid));
  });

  it('gives what it fetched also when the store cannot keep it, if somebody is told', async () => {
    const store = new MemoryStore();
    const full = new Error('full');
    store.put = async () => Promise.reject(full);
    const source = await storeWith(bytes);
    await assert.rejects(cached(store, source).get(cid, { signal }), full);
    const failures: unknown[] = [];
    const told = cached(store, source, { onStoreFailure: (error) => void failures.push(error) });
    assert.ok(await told.get(cid, { signal }));
    assert.deepEqual(failures, [full]);
  });
});

describe('coalesced', () => {
  it('fetches once for all who wait, and anew afterwards', async () => {
    const slow = new Slow();
    const source = coalesced(slow);
    const waits = [source.get(cid, { signal }), source.get(cid, { signal })];
    slow.calls[0]?.answer.resolve(bytes);
    assert.deepEqual(await Promise.all(waits), [bytes, bytes]);
    void source.get(cid, { signal });
    assert.equal(slow.calls.length, 2);
  });

  it('goes on when one waiter leaves, and stops when the last one does', async () => {
    const slow = new Slow();
    const source = coalesced(slow);
    const [first, second] = [new AbortController(), new AbortController()];
    const waits = [source.get(cid, first), source.get(cid, second)];
    first.abort(new Error('first left'));
    await assert.rejects(waits[0] as Promise<unknown>, /first left/);
    assert.equal(slow.calls[0]?.signal.aborted, false);
    second.abort(new Error('second left'));
    await assert.rejects(waits[1] as Promise<unknown>, /second left/);
    assert.equal(slow.calls[0]?.signal.aborted, true);
    // A new waiter does not get the aborted fetch.
    const third = source.get(cid, { signal });
    slow.calls[1]?.answer.resolve(bytes);
    assert.equal(await third, bytes);
  });

  it('tells every waiter of a failure', async () => {
    const down = new Error('down');
    const source = coalesced(failing(down));
    const results = await Promise.allSettled([source.get(cid, { signal }), source.get(cid, { signal })]);
    assert.deepEqual(results, Array(2).fill({ status: 'rejected', reason: down }));
  });
});

describe('firstOf', () => {
  it('goes past sources that lack, fail or lie, and says so', async () => {
    const failures: [unknown, number][] = [];
    const down = new Error('down');
    const sources = [new MemoryStore(), failing(down), verified(lying, 'mallory'), await storeWith(bytes)];
    const source = firstOf(sources, { onFailure: (error, index) => void failures.push([error, index]) });
    assert.deepEqual(Buffer.from((await source.get(cid, { signal })) ?? ''), bytes);
    assert.deepEqual(
      failures.map(([, index]) => index),
      [1, 2],
    );
    assert.equal(failures[0]?.[0], down);
    assert.ok(failures[1]?.[0] instanceof CorruptChunk && failures[1][0].from === 'mallory');
  });

  it('is undefined only when all answered that they have it not', async () => {
    assert.equal(await firstOf([new MemoryStore(), new MemoryStore()]).get(cid, { signal }), undefined);
    await assert.rejects(
      firstOf([failing(new Error('down')), new MemoryStore()]).get(cid, { signal }),
      (error) => error instanceof SourcesFailed && error.cid.equals(cid) && error.errors.length === 1,
    );
  });

  it('does not try the next source for a caller that left', async () => {
    const stop = new AbortController();
    const slow = new Slow();
    const next = new MemoryStore();
    const wait = firstOf([slow, next]).get(cid, stop);
    stop.abort(new Error('left'));
    await assert.rejects(wait, /left/);
    assert.equal(next.asked.length, 0);
  });
});
