import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { RateCap } from '../../src/limits/rate-cap.ts';

interface Moved {
  readonly at: number;
  readonly bytes: number;
}

/** The most that moved in any second [t, t + 1000). Sums only reach a maximum in seconds that begin with a move. */
function busiestSecond(moves: readonly Moved[]): number {
  const sorted = moves.toSorted((a, b) => a.at - b.at);
  let most = 0;
  let sum = 0;
  let last = 0;
  for (const first of sorted) {
    for (; last < sorted.length && (sorted[last] as Moved).at < first.at + 1000; last += 1)
      sum += sorted[last]?.bytes ?? 0;
    most = Math.max(most, sum);
    sum -= first.bytes;
  }
  return most;
}

const step = fc.record({
  /** Until the next step, ms. */
  pause: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 3, noNaN: true }), fc.integer({ min: 0, max: 1500 })),
  bytes: fc.integer({ min: 1, max: 300_000 }),
  /** How long the bytes are under way, ms, and in how many parts they come; 0 parts: they never do. */
  delay: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 50, noNaN: true }), fc.integer({ min: 0, max: 4000 })),
  parts: fc.integer({ min: 0, max: 4 }),
});

interface Event {
  readonly at: number;
  readonly run: () => void;
}

type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

/** Takes what fits of `steps`, moves it as they say, and returns what moved when. */
function run(cap: RateCap, steps: readonly Step[], from = 0): Moved[] {
  const moves: Moved[] = [];
  const due: Event[] = [];
  let now = from;
  const until = (time: number) => {
    due.sort((a, b) => a.at - b.at);
    while ((due[0]?.at ?? Number.POSITIVE_INFINITY) <= time) due.shift()?.run();
    now = time;
  };
  for (const { pause, bytes, delay, parts } of steps) {
    until(now + pause);
    if (!cap.fits(bytes, now)) continue;
    cap.take(bytes, now);
    if (parts === 0) due.push({ at: now + delay, run: () => cap.released(bytes) });
    for (let part = 1; part <= parts; part += 1) {
      const some = Math.floor((bytes * part) / parts) - Math.floor((bytes * (part - 1)) / parts);
      const at = now + (delay * part) / parts;
      due.push({
        at,
        run: () => {
          cap.moved(some, at);
          moves.push({ at, bytes: some });
        },
      });
    }
  }
  until(Number.MAX_SAFE_INTEGER);
  return moves;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

suite('rate cap', () => {
  test('no second, wherever it begins, holds more than the limit', () => {
    const steps = fc.array(step, { minLength: 20, maxLength: 200 });
    fc.assert(
      fc.property(fc.integer({ min: 300_000, max: 3_000_000 }), steps, (limit, given) => {
        const most = busiestSecond(run(new RateCap(limit), given));
        assert.ok(most <= limit, `${most} bytes in a second under a cap of ${limit}`);
      }),
      { numRuns: 3000 },
    );
  });

  test('a change of the limit holds from then on', () => {
    const steps = fc.array(step, { minLength: 20, maxLength: 100 });
    fc.assert(
      fc.property(steps, steps, fc.integer({ min: 300_000, max: 900_000 }), (before, after, limit) => {
        const cap = new RateCap(1_000_000);
        const first = run(cap, before);
        // The cap has seen the time of every step, also of one that moved nothing: its clock does not go back.
        const change = Math.max(sum(before.map(({ pause }) => pause)), ...first.map(({ at }) => at));
        cap.setLimit(limit, change);
        const second = run(cap, after, change);
        assert.ok(busiestSecond([...first, ...second]) <= 1_000_000);
        assert.ok(busiestSecond(second) <= limit);
      }),
      { numRuns: 300 },
    );
  });

  test('what does not fit fits when it says it will, and not before', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 2_000_000 }), (steps, bytes) => {
        const cap = new RateCap(500_000);
        let now = 0;
        for (const { pause, bytes: some, parts } of steps) {
          now += pause;
          if (!cap.fits(some, now)) continue;
          cap.take(some, now);
          if (parts === 0) cap.released(some);
          else cap.moved(some, now);
        }
        const at = cap.fitsAt(bytes, now);
        assert.ok(at < now + 10_000, 'whatever waits for time alone comes');
        if (at - now > 0.01) assert.ok(!cap.fits(bytes, at - 0.01));
        assert.ok(cap.fits(bytes, at + 0.001));
      }),
      { numRuns: 2000 },
    );
    const close = new RateCap(1000);
    for (const at of [0, 4]) {
      close.take(500, at);
      close.moved(500, at);
    }
    assert.ok(!close.fits(100, 1003.9), 'moves that are close together count from the last of them');
    assert.ok(close.fits(100, 1004));
    const waiting = new RateCap(100);
    waiting.take(100, 0);
    assert.equal(waiting.fitsAt(50, 5000), Number.POSITIVE_INFINITY, 'nothing but the arrival of the rest helps');
  });

  test('nearly all of the limit is used by those that always have more, without bursts', () => {
    for (const delay of [0, 10, 30]) {
      const limit = 2_500_000;
      const cap = new RateCap(limit);
      const moves: Moved[] = [];
      const flying: { readonly at: number }[] = [];
      for (let now = 0; now < 10_000; now += 1) {
        while ((flying[0]?.at ?? Number.POSITIVE_INFINITY) <= now) {
          flying.shift();
          cap.moved(64_000, now);
          moves.push({ at: now, bytes: 64_000 });
        }
        while (cap.fits(64_000, now)) {
          cap.take(64_000, now);
          flying.push({ at: now + delay });
        }
      }
      const total = moves.reduce((sum, { bytes }) => sum + bytes, 0);
      assert.ok(total > 0.92 * limit * 10, `${total / limit / 10} of the limit with ${delay} ms under way`);
      const tenths = moves.filter(({ at }) => at < 100).reduce((sum, { bytes }) => sum + bytes, 0);
      assert.ok(tenths <= 0.25 * limit, 'the first second does not leave at once');
    }
  });

  test('a piece larger than a second goes alone and is paid for', () => {
    const cap = new RateCap(100_000);
    assert.ok(cap.fits(256_000, 0));
    cap.take(256_000, 0);
    cap.moved(256_000, 10);
    assert.ok(!cap.fits(1, 1500), 'although nothing moved in the last second but one');
    const next = cap.fitsAt(64_000, 1500);
    assert.ok(next > 2_500 && next < 2_700, `the next after ${next} ms`);
  });

  test('a limit of nothing lets nothing pass, no limit everything', () => {
    const shut = new RateCap(0);
    assert.ok(!shut.fits(1, 1e6));
    assert.equal(shut.fitsAt(1, 0), Number.POSITIVE_INFINITY);
    const open = new RateCap();
    open.take(1e12, 0);
    assert.ok(open.fits(1e12, 0));
    assert.equal(open.room(0), Number.POSITIVE_INFINITY);
    assert.throws(() => new RateCap(-1), RangeError);
    assert.throws(() => new RateCap(Number.NaN), RangeError);
  });
});
