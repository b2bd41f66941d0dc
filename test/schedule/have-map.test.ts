import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { HaveMap } from '../../src/schedule/have-map.ts';

suite('have-map', () => {
  test('property: behaves like a set of numbers, on the wire too', () => {
    const step = fc.tuple(fc.boolean(), fc.integer({ min: -2, max: 90 }));
    fc.assert(
      fc.property(fc.nat(80), fc.array(step), (size, steps) => {
        const map = new HaveMap(size);
        const model = new Set<number>();
        for (const [add, index] of steps) {
          const inside = index >= 0 && index < size;
          assert.equal(add ? map.add(index) : map.delete(index), inside && model.has(index) !== add);
          if (inside && add) model.add(index);
          else model.delete(index);
        }
        const copy = HaveMap.from(map.bytes(), size);
        for (const one of [map, copy]) {
          assert.equal(one.count, model.size);
          assert.equal(one.complete, model.size === size);
          for (let index = 0; index < size; index += 1) assert.equal(one.has(index), model.has(index));
        }
      }),
    );
  });

  test('bits beyond the set do not count', () => {
    assert.equal(HaveMap.from(new Uint8Array(9).fill(255), 12).count, 12);
    assert.equal(HaveMap.from(new Uint8Array(1).fill(255), 12).count, 8);
    assert.equal(HaveMap.full(0).complete, true);
  });
});
