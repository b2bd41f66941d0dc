import assert from 'node:assert/strict';
import { createCipheriv, createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Chunker } from '../../src/content/chunker.ts';

const chunker = new Chunker({ min: 1024, average: 4096, max: 16384 });

function cuts(bytes: Uint8Array): number[] {
  const found: number[] = [];
  for (let end = 0; end < bytes.length; ) {
    end = chunker.cut(bytes, end, bytes.length);
    found.push(end);
  }
  return found;
}

function noise(seed: string, length: number): Uint8Array {
  return createCipheriv('aes-256-ctr', seed.padEnd(32), Buffer.alloc(16)).update(Buffer.alloc(length));
}

describe('Chunker', () => {
  it('cuts where it always did', () => {
    // A change here changes every artifact's CID and loses all de-duplication with what is stored.
    const digest = createHash('sha256')
      .update(cuts(noise('golden', 300_000)).join())
      .digest('hex');
    assert.equal(digest.slice(0, 16), '32cd691e3eb6d654');
  });

  it('keeps chunks between min and max, and near the average', () => {
    const found = cuts(noise('sizes', 1_000_000));
    const sizes = found.map((end, i) => end - (found[i - 1] ?? 0));
    for (const size of sizes.slice(0, -1)) assert.ok(size > 1024 && size <= 16384, `${size}`);
    const mean = 1_000_000 / sizes.length;
    assert.ok(mean > 3500 && mean < 6000, `mean ${mean}`);
    assert.deepEqual(new Set(cuts(new Uint8Array(65536)).map((end) => end % 16384)), new Set([0]));
  });

  it('finds its cuts again after an insertion', () => {
    const before = noise('shift', 300_000);
    const after = new Uint8Array([...before.subarray(0, 100_000), 1, 2, 3, ...before.subarray(100_000)]);
    const shifted = new Set(cuts(after).map((end) => end - 3));
    const kept = cuts(before).filter((end) => end > 100_000 && shifted.has(end)).length;
    assert.ok(kept >= cuts(before).filter((end) => end > 100_000).length - 3);
  });

  it('cuts in the same place however much it sees beyond', () => {
    const bytes = noise('prefix', 60_000);
    const whole = chunker.cut(bytes, 0, bytes.length);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: bytes.length }), (end) => {
        const cut = chunker.cut(bytes, 0, end);
        assert.equal(cut, Math.min(end, whole));
      }),
      { numRuns: 2000 },
    );
  });

  it('refuses sizes that contradict each other', () => {
    assert.throws(() => new Chunker({ min: 1024, average: 5000, max: 16384 }), RangeError);
    assert.throws(() => new Chunker({ min: 4096, average: 4096, max: 16384 }), RangeError);
    assert.throws(() => new Chunker({ min: 1024, average: 4096, max: 2 * 1024 * 1024 }), RangeError);
  });
});
