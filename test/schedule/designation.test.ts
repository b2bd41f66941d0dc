import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { Designation } from '../../src/schedule/designation.ts';

const nodes = Array.from({ length: 5 }, (_, n) => `12D3KooWnode${n}`);
const none = () => undefined;

/** The view of one node that knows the others. */
function view(self: string, others: readonly string[], size = 1000): Designation {
  const designation = new Designation(size, self);
  for (const other of others) designation.add(other, none);
  return designation;
}

suite('designation', () => {
  test('nodes agree whatever order they learned of each other in, and share evenly', () => {
    const views = nodes.map((self, n) => view(self, n % 2 === 0 ? nodes : nodes.toReversed(), 10_000));
    const shares = new Map<string, number>();
    for (let index = 0; index < 10_000; index += 1) {
      const [first, ...rest] = views.map((one) => one.fetcherOf(index));
      for (const other of rest) assert.equal(other, first);
      shares.set(first ?? '', (shares.get(first ?? '') ?? 0) + 1);
      assert.equal(views.filter((one) => one.isOurs(index)).length, 1);
      assert.deepEqual(views.map((one) => one.rank(index)).sort(), [0, 1, 2, 3, 4]);
    }
    for (const count of shares.values()) assert.ok(count > 1_700 && count < 2_300, `${count} of 10000`);
  });

  test('property: those who come and go move their own chunks only, and each move is told', () => {
    const step = fc.tuple(fc.boolean(), fc.constantFrom(...nodes.slice(1)));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const one = new Designation(200, nodes[0] ?? '');
        const known = new Set<string>();
        const ours = new Set(Array.from({ length: 200 }, (_, n) => n));
        for (const [add, id] of steps) {
          const before = Array.from({ length: 200 }, (_, n) => one.fetcherOf(n));
          if (add) one.add(id, (index) => assert.ok(ours.delete(index)));
          else one.remove(id, (index) => assert.ok(!ours.has(index) && ours.add(index)));
          if (add) known.add(id);
          else known.delete(id);
          for (let index = 0; index < 200; index += 1) {
            const fetcher = one.fetcherOf(index);
            if (fetcher !== before[index]) assert.ok(add ? fetcher === id : before[index] === id);
            assert.equal(one.isOurs(index), ours.has(index));
          }
        }
        const fresh = view(nodes[0] ?? '', [...known], 200);
        for (let index = 0; index < 200; index += 1) assert.equal(one.fetcherOf(index), fresh.fetcherOf(index));
        assert.deepEqual(new Set(one.participants), new Set([nodes[0], ...known]));
      }),
      { numRuns: 200 },
    );
  });

  test('two that know of each other never both think that a chunk is theirs, whoever else they know', () => {
    const [a = '', b = '', c = '', d = ''] = nodes;
    const one = view(a, [b, c]);
    const other = view(b, [a, d]);
    for (let index = 0; index < 1000; index += 1) assert.ok(!(one.isOurs(index) && other.isOurs(index)));
  });
});
