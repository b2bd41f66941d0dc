import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { simulateApart } from '../../bench/sim/apart.ts';
import { EventQueue } from '../../bench/sim/event-queue.ts';
import { faults, type Outcome } from '../../bench/sim/outcome.ts';
import { SCENARIO_DEFAULTS, type Scenario } from '../../bench/sim/scenario.ts';
import { simulate } from '../../bench/sim/simulate.ts';

/** A run of a second or so, with everything that can go wrong in a large one. */
const SMALL: Scenario = {
  ...SCENARIO_DEFAULTS,
  nodes: 48,
  sites: 3,
  chunks: 256,
  liars: 0.1,
  churn: 1,
  limitMs: 600_000,
};

const run = (change: Partial<Scenario> = {}): Promise<Outcome> =>
  simulate({ ...SMALL, ...change }, { signal: AbortSignal.timeout(60_000) });

describe('the simulation', () => {
  it('brings the payload to every honest node among liars and churn, and no wrong byte', async () => {
    const outcome = await run();
    assert.deepEqual(faults(outcome, { mostUplink: 1.2 }), []);
    assert.ok(outcome.refused > 0, 'a liar was asked');
    assert.ok(outcome.deaths > 0, 'a node died');
    assert.ok((outcome.times.at(-1) ?? 0) >= outcome.boundMs, 'nobody is faster than the links');
  });

  it('is the same for the same seed, event by event, and another for another', async () => {
    const [first, second, other] = [await run(), await run(), await run({ seed: 2 })];
    assert.deepEqual(second, first);
    assert.notEqual(other.digest, first.digest);
    assert.notDeepEqual(other.times, first.times);
  });

  it('comes to the same in one thread and in several', async () => {
    const signal = AbortSignal.timeout(60_000);
    const here = await run();
    for (const threads of [1, 2, 3]) assert.deepEqual(await simulateApart(SMALL, { signal, threads }), here);
  });

  it('finds wrong chunks in the stores when nobody checks what arrives', async () => {
    const outcome = await run({ verify: false });
    assert.ok(outcome.wrong > 0);
    assert.notDeepEqual(faults(outcome, { mostUplink: 10 }), []);
  });
});

describe('the event queue', () => {
  it('gives events by time, and those of one time in the order in which they were scheduled', () => {
    const moves = fc.array(fc.oneof(fc.constant('pop' as const), fc.integer({ min: 0, max: 9 })), { maxLength: 400 });
    fc.assert(
      fc.property(moves, (steps) => {
        const queue = new EventQueue();
        let model: { time: number; name: number }[] = [];
        let now = 0;
        steps.forEach((step, name) => {
          if (step !== 'pop') {
            queue.push(now + step, 0, name);
            model.push({ time: now + step, name });
            model = model.sort((a, b) => a.time - b.time || a.name - b.name);
            return;
          }
          const expected = model.shift();
          const event = queue.pop();
          assert.deepEqual(event && { time: event.time, name: event.a }, expected);
          now = expected?.time ?? now;
        });
        assert.equal(queue.size, model.length);
      }),
    );
  });
});
