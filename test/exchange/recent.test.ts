import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { suite, test } from 'node:test';
import { BufferPool } from '../../src/content/buffer-pool.ts';
import { chunkCid } from '../../src/content/chunk.ts';
import { RecentChunks } from '../../src/exchange/recent.ts';

const KIB = 1024;

/** A chunk in a buffer of the pool, as it arrives from a lane. */
function arrive(pool: BufferPool, size = 60 * KIB) {
  const bytes = pool.take(size);
  randomBytes(size).copy(bytes);
  return { cid: chunkCid(bytes), bytes };
}

suite('chunks that arrived lately', () => {
  test('are there until newer ones need their room, the one that was wanted last the longest', () => {
    const pool = new BufferPool();
    const recent = new RecentChunks(pool, 3 * 64 * KIB);
    const [a, b, c, d] = [arrive(pool), arrive(pool), arrive(pool), arrive(pool)];
    for (const { cid, bytes } of [a, b, c]) recent.keep(cid, bytes);
    recent.borrow(a.cid)?.release();
    recent.keep(d.cid, d.bytes);
    assert.equal(recent.borrow(a.cid)?.bytes, a.bytes);
    assert.equal(recent.borrow(b.cid), undefined);
    assert.ok(recent.borrow(c.cid) && recent.borrow(d.cid));
  });

  test('a buffer is not used again while a lane sends from it, and is afterwards', () => {
    const pool = new BufferPool();
    const recent = new RecentChunks(pool, 64 * KIB);
    const sent = arrive(pool);
    const copy = Uint8Array.from(sent.bytes);
    recent.keep(sent.cid, sent.bytes);
    const [first, second] = [recent.borrow(sent.cid), recent.borrow(sent.cid)];
    const next = arrive(pool);
    recent.keep(next.cid, next.bytes);
    assert.equal(recent.borrow(sent.cid), undefined, 'evicted');
    first?.release();
    for (let n = 0; n < 4; n += 1) arrive(pool);
    assert.deepEqual(sent.bytes, copy);
    second?.release();
    assert.equal(pool.take(60 * KIB).buffer, sent.bytes.buffer);
  });

  test('the same chunk twice is kept once', () => {
    const pool = new BufferPool();
    const recent = new RecentChunks(pool);
    const one = arrive(pool);
    const again = { cid: one.cid, bytes: pool.take(60 * KIB) };
    again.bytes.set(one.bytes);
    recent.keep(one.cid, one.bytes);
    recent.keep(again.cid, again.bytes);
    assert.equal(recent.borrow(one.cid)?.bytes, one.bytes);
    assert.equal(pool.take(60 * KIB).buffer, again.bytes.buffer);
  });
});
