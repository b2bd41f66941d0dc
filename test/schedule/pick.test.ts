import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { HaveMap } from '../../src/schedule/have-map.ts';
import { type PickInput, pick, type Uploader } from '../../src/schedule/pick.ts';
import { WantList } from '../../src/schedule/want-list.ts';

const CHUNKS = 64;

/** A small, seeded generator: the same numbers every time. */
function random(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

function uploader(
  id: string,
  has: Iterable<number> | 'all',
  options: { near?: boolean; room?: number } = {},
): Uploader {
  const map = has === 'all' ? HaveMap.full(CHUNKS) : new HaveMap(CHUNKS);
  if (has !== 'all') for (const index of has) map.add(index);
  return { id, near: options.near ?? true, map, room: options.room ?? 1e9 };
}

function input(wanted: Iterable<number>, uploaders: Uploader[], rest: Partial<PickInput> = {}): PickInput {
  const list = new WantList(CHUNKS);
  for (const index of wanted) list.add(index);
  return {
    wanted: list,
    uploaders,
    urgent: new Set(),
    size: () => 1000,
    claimed: () => false,
    designated: () => true,
    steal: false,
    overdue: () => false,
    limit: 1000,
    ...rest,
  };
}

suite('pick', () => {
  test('takes the rarest first, and urgent ones before that', () => {
    const uploaders = [uploader('a', [1, 2, 3]), uploader('b', [1, 2]), uploader('c', [1])];
    const picks = pick(input([1, 2, 3], uploaders, { urgent: new Set([1]) }), random(1));
    assert.deepEqual(
      picks.map(({ index }) => index),
      [1, 3, 2],
    );
  });

  test('a seed gives first copies only to their designated fetcher; what others hold comes from them', () => {
    const seed = uploader('seed', 'all');
    const other = uploader('other', [5]);
    const picks = pick(input([4, 5, 6], [seed, other], { designated: (index) => index === 4 }), random(2));
    assert.deepEqual(picks.map(({ index, uploader: { id } }) => `${index} from ${id}`).sort(), [
      '4 from seed',
      '5 from other',
    ]);
  });

  test('nothing that a neighbour holds or claims crosses the uplink, stealing or not', () => {
    const outside = uploader('far', 'all', { near: false });
    const neighbour = uploader('near', [1, 2], { room: 0 });
    const steal = { designated: () => false, steal: true, claimed: (index: number) => index === 3 };
    const picks = pick(input([1, 2, 3, 4], [outside, neighbour], steal), random(3));
    assert.deepEqual(
      picks.map(({ index }) => index),
      [4],
    );
  });

  test('an overdue urgent chunk is fetched by whoever waits for it', () => {
    const outside = uploader('far', 'all', { near: false });
    const waiting = { urgent: new Set([7]), designated: () => false };
    assert.deepEqual(pick(input([7], [outside], waiting), random(4)), []);
    assert.equal(pick(input([7], [outside], { ...waiting, overdue: () => true }), random(4))[0]?.index, 7);
  });

  test('property: every pick is wanted, held by its uploader, taken once, and within the room', () => {
    const party = fc.record({
      has: fc.array(fc.nat(CHUNKS - 1), { maxLength: CHUNKS }),
      near: fc.boolean(),
      room: fc.nat(20_000),
    });
    fc.assert(
      fc.property(
        fc.array(party, { maxLength: 6 }),
        fc.uniqueArray(fc.nat(CHUNKS - 1)),
        fc.boolean(),
        fc.integer(),
        (parties, wanted, steal, seed) => {
          const uploaders = parties.map(({ has, near, room }, n) => uploader(`${n}`, has, { near, room }));
          const before = new Map(uploaders.map((one) => [one, one.room]));
          const designated = (index: number) => index % 2 === 0;
          const picks = pick(input(wanted, uploaders, { steal, designated, limit: 16 }), random(seed));
          assert.ok(picks.length <= 16);
          assert.equal(new Set(picks.map(({ index }) => index)).size, picks.length);
          for (const { index, uploader: from } of picks) {
            assert.ok(wanted.includes(index));
            assert.ok(from.map.has(index));
            assert.ok((before.get(from) ?? 0) > 0);
            const held = uploaders.some((one) => one.near && one.map.has(index));
            assert.ok(from.near || !held, 'crossed the uplink for what a neighbour holds');
            assert.ok(from.near || steal || designated(index));
          }
          // At most one chunk beyond the room of each: a chunk larger than the room must not wait for ever.
          for (const one of uploaders) assert.ok(one.room > -1000);
        },
      ),
      { numRuns: 2000 },
    );
  });
});
