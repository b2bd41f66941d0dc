import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type Move, Throttle } from '../../src/exchange/throttle.ts';

const { signal } = new AbortController();
const BYTES = 50_000;

/** Asks for a turn, and notes in `order` when it came. */
async function go(throttle: Throttle, order: string[], name: string, move: Partial<Move> = {}): Promise<void> {
  const grant = await throttle.turn({ near: true, bytes: BYTES, priority: 'background', ...move }, { signal });
  order.push(name);
  grant.moved(BYTES);
}

suite('throttle', { concurrency: true }, () => {
  test('who is more urgent goes first, then who came first, and nobody is passed by what is only admitted', async () => {
    using throttle = new Throttle({ node: 500_000 });
    const order: string[] = [];
    // The first takes the burst; the others wait.
    await go(throttle, order, 'first');
    const all = [
      go(throttle, order, 'prefetch 1'),
      go(throttle, order, 'prefetch 2'),
      go(throttle, order, 'boot', { priority: 'foreground' }),
      go(throttle, order, 'reader', { priority: 'urgent' }),
    ];
    for (let n = 0; n < 10; n += 1) {
      assert.equal(throttle.admit(true, 1000), false);
      await delay(10);
    }
    await Promise.all(all);
    assert.deepEqual(order, ['first', 'reader', 'boot', 'prefetch 1', 'prefetch 2']);
  });

  test('what waits for the uplink holds up nobody of the site, and goes when this node may use it', async () => {
    using throttle = new Throttle({ node: 10_000_000, site: 2_000_000 });
    const order: string[] = [];
    const far = go(throttle, order, 'far', { near: false, priority: 'urgent' });
    await go(throttle, order, 'near');
    assert.ok(throttle.admit(true, BYTES));
    assert.ok(!throttle.admit(false, BYTES));
    assert.ok(throttle.usedUplink(1000));
    throttle.heard({ uses: true, others: 0, alone: true });
    await far;
    assert.deepEqual(order, ['near', 'far']);
  });

  test('one that gives up takes nothing, and its end lets the others go', async () => {
    using throttle = new Throttle({ node: 100_000 });
    const grant = await throttle.turn({ near: true, bytes: 100_000, priority: 'urgent' }, { signal });
    const stop = new AbortController();
    const waiting = throttle.turn({ near: true, bytes: 80_000, priority: 'urgent' }, stop);
    const order: string[] = [];
    const other = go(throttle, order, 'other', { bytes: 10_000 });
    stop.abort(new Error('enough'));
    await assert.rejects(waiting, /enough/);
    assert.deepEqual(order, []);
    grant.dropped();
    await other;
    throttle.setLimits({});
    assert.ok(throttle.admit(false, 1e9));
  });
});
