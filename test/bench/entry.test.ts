import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fluidBound } from '../../bench/site/bound.ts';
import { entryOf } from '../../bench/site/entry.ts';
import type { Heat } from '../../bench/site/race.ts';
import { aheadOfAll, allVerified, atMost } from '../../bench/site/verdict.ts';

const heat: Heat = {
  ...{ seconds: [2, 4], verified: 2, cpuSeconds: 4, idlePercent: 50, peakRssMb: 100, idleRssMb: 80, grownRssMb: 20 },
  wire: { originUp: 1.1e9, originDown: 0, uplinks: { edge: { down: 1.1e9, up: 0 } } },
  payloadSent: 1e9,
};
const yardstick = { payloadBytes: 1e9, boundSeconds: 2 };
const outcome = (contender: string, heats: readonly Heat[]) => {
  return { contender, heats, entry: entryOf(heats, '1', yardstick) };
};

test('the bound is that of the narrowest: the origin, the receivers, or all senders together', () => {
  assert.equal(fluidBound(1e6, 8, { originUp: 8e6, nodeUp: 8e6, nodeDown: 8e6 }), 1);
  assert.equal(fluidBound(1e6, 8, { originUp: 80e6, nodeUp: 80e6, nodeDown: 4e6 }), 2);
  assert.equal(fluidBound(1e6, 8, { originUp: 8e6, nodeUp: 1e6, nodeDown: 80e6 }), 4);
});

test('rounds become medians, and one in which somebody never finished counts as the longest', () => {
  const slower = { ...heat, seconds: [3, 6] };
  const failed = { ...heat, seconds: [3, undefined], verified: 1 };
  const entry = entryOf([heat, failed, slower], '1', yardstick);
  assert.deepEqual([entry.ratio_to_bound, entry.seconds, entry.finished, entry.verified], [3, 6, 1, 1]);
  assert.deepEqual([entry.ratio_p50, entry.ratio_p99], [1.5, null]);
  assert.deepEqual([entry.origin_egress, entry.origin_payload, entry.cpu_s_per_gb], [1.1, 1, 2]);
  assert.equal(entryOf([heat, failed, failed], '1', yardstick).ratio_to_bound, null);
});

test('a wrong or missing copy, a figure past its limit or absent, and a faster peer are failures', () => {
  const ours = outcome('ours', [heat]);
  assert.deepEqual(allVerified([ours]), []);
  assert.equal(allVerified([outcome('ours', [{ ...heat, verified: 1 }])]).length, 1);
  assert.deepEqual(atMost('x', 1.05, 1.05), []);
  assert.equal(atMost('x', 1.051, 1.05).length, 1);
  assert.equal(atMost('x', null, 1.05).length, 1);
  assert.deepEqual(aheadOfAll([ours, outcome('other', [{ ...heat, seconds: [2, 4.1] }])]), []);
  assert.equal(aheadOfAll([ours, outcome('other', [{ ...heat, seconds: [2, 3.9] }])]).length, 1);
  assert.deepEqual(aheadOfAll([ours, outcome('other', [{ ...heat, seconds: [2, undefined] }])]), []);
});
