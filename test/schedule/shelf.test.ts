import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { Shelf } from '../../src/schedule/shelf.ts';

const RANKS = 4;

suite('shelf', () => {
  test('property: keeps each chunk under its last rank, and gives samples of distinct ones', () => {
    const step = fc.tuple(fc.nat(60), fc.integer({ min: -1, max: RANKS - 1 }));
    fc.assert(
      fc.property(
        fc.array(step),
        fc.nat(20),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (steps, limit, at) => {
          const shelf = new Shelf(61, RANKS);
          const model = new Map<number, number>();
          for (const [index, rank] of steps) {
            if (rank < 0) {
              assert.equal(shelf.take(index), model.delete(index));
            } else {
              shelf.put(index, rank);
              model.set(index, rank);
            }
          }
          assert.equal(shelf.count, model.size);
          for (let rank = 0; rank < RANKS; rank += 1) {
            const own = [...model].filter(([, one]) => one === rank).map(([index]) => index);
            const sample = shelf.sample(rank, limit, () => at);
            assert.equal(shelf.countOf(rank), own.length);
            assert.equal(sample.length, Math.min(limit, own.length));
            assert.equal(new Set(sample).size, sample.length);
            assert.ok(sample.every((index) => own.includes(index)));
          }
        },
      ),
    );
  });
});
