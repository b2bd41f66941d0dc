import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { LaneChoice } from '../../src/lane/lane-choice.ts';

const CHUNK = 64 * 1024;

/** Sends over whatever is chosen, at these rates (bytes per second), for `seconds`. Returns the seconds by the stream. */
function run(choice: LaneChoice, from: number, seconds: number, rates: { fast: number; stream: number }, waiting = 8) {
  let byStream = 0;
  let now = from;
  while (now < from + seconds * 1000 && !choice.slow) {
    const by = choice.fast ? 'fast' : 'stream';
    const ms = (CHUNK / rates[by]) * 1000;
    if (by === 'stream') byStream += ms / 1000;
    now += ms;
    choice.sent(by, CHUNK, waiting, now);
  }
  return byStream;
}

suite('choice between a fast lane and the stream', () => {
  test('a lane that is clearly slower than the stream is left', () => {
    const choice = new LaneChoice();
    run(choice, 0, 60, { fast: 5e6, stream: 12e6 });
    assert.equal(choice.slow, true);
  });

  test('one that is as fast, or nearly, is kept, and the stream is tried ever more seldom', () => {
    const choice = new LaneChoice();
    const first = run(choice, 0, 120, { fast: 11e6, stream: 12e6 });
    assert.ok(first > 1, 'the stream was tried');
    assert.equal(choice.slow, false);
    const hour = run(choice, 120_000, 3600, { fast: 11e6, stream: 12e6 });
    assert.equal(choice.slow, false);
    assert.ok(hour < 36, `${hour} s of an hour by the stream`);
  });

  test('a lane that is fast enough, or not the bottleneck, is not doubted', () => {
    const quick = new LaneChoice();
    assert.equal(run(quick, 0, 600, { fast: 80e6, stream: 500e6 }), 0);
    const idle = new LaneChoice();
    assert.equal(run(idle, 0, 600, { fast: 5e6, stream: 500e6 }, 0), 0);
    assert.equal(idle.slow, false);
  });
});
