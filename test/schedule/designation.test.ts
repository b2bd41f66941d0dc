import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Designation } from '../../src/schedule/designation.ts';

const nodes = Array.from({ length: 5 }, (_, n) => `12D3KooWnode${n}`);

function shares(designation: Designation, chunks: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let index = 0; index < chunks; index += 1) {
    const fetcher = designation.fetcherOf(index) ?? '';
    counts.set(fetcher, (counts.get(fetcher) ?? 0) + 1);
  }
  return counts;
}

suite('designation', () => {
  test('nodes agree whatever order they learned of each other in, and share evenly', () => {
    const one = new Designation(nodes);
    const other = new Designation([...nodes].reverse());
    assert.ok(one.equals(other));
    for (let index = 0; index < 1000; index += 1) assert.equal(one.fetcherOf(index), other.fetcherOf(index));
    for (const count of shares(one, 10_000).values()) assert.ok(count > 1_700 && count < 2_300, `${count} of 10000`);
  });

  test('when one leaves, only its chunks move', () => {
    const before = new Designation(nodes);
    const after = new Designation(nodes.slice(1));
    for (let index = 0; index < 1000; index += 1) {
      const fetcher = before.fetcherOf(index);
      if (fetcher !== nodes[0]) assert.equal(after.fetcherOf(index), fetcher);
    }
  });

  test('nobody takes part: nobody is designated', () => {
    assert.equal(new Designation([]).fetcherOf(0), undefined);
  });
});
