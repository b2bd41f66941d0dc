import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { answerDelay, MAX_ANSWERS, rankNodes } from '../../src/schedule/answer.ts';

const nodes = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 12 });

describe('who answers a client', () => {
  it('is the same for every node, whatever order it knows the others in', () => {
    fc.assert(
      fc.property(nodes, fc.string(), (some, client) => {
        assert.deepEqual(rankNodes(client, some), rankNodes(client, some.toReversed()));
      }),
    );
  });

  it('moves only the clients of a node that goes away', () => {
    const all = ['a', 'b', 'c', 'd', 'e'];
    for (let client = 0; client < 200; client++) {
      const [first, second] = rankNodes(`${client}`, all);
      const without = rankNodes(
        `${client}`,
        all.filter((node) => node !== first),
      );
      assert.equal(without[0], second);
    }
    const firsts = Map.groupBy(
      Array.from({ length: 1000 }, (_, n) => rankNodes(`${n}`, all)[0]),
      (first) => first,
    );
    for (const clients of firsts.values()) assert.ok(clients.length > 120, 'clients spread over the nodes');
  });

  it('is exactly one node at once, at most three though no claim is heard, and all in turn over repeated questions', () => {
    fc.assert(
      fc.property(nodes, fc.string(), fc.nat(20), (some, client, attempt) => {
        const ask = (self: string, n: number) => answerDelay({ self, client, eligible: some, attempt: n, claims: 0 });
        const plans = some.map((self) => ask(self, attempt)).filter((plan) => plan !== undefined);
        assert.equal(plans.filter(({ delayMs }) => delayMs === 0).length, 1);
        assert.equal(plans.length, Math.min(MAX_ANSWERS, some.length));
        assert.ok(plans.every(({ rank, delayMs }) => delayMs === rank * 250));
        const over = some.map((_, n) => some.find((self) => ask(self, n)?.rank === 0));
        assert.equal(new Set(over).size, some.length);
      }),
    );
  });

  it('is nobody once enough have claimed, and never a node that may not', () => {
    const state = { self: 'a', client: 'x', eligible: ['a'], attempt: 0, claims: 0 };
    assert.equal(answerDelay({ ...state, claims: 1 }), undefined);
    assert.deepEqual(answerDelay({ ...state, claims: 1, wanted: 2 }), { rank: 0, delayMs: 0 });
    assert.equal(answerDelay({ ...state, claims: MAX_ANSWERS, wanted: 9 }), undefined);
    assert.equal(answerDelay({ ...state, self: 'b' }), undefined);
  });
});
