import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { WINDOW_DEFAULTS, Window } from '../../src/schedule/window.ts';

/** An uploader of `rate` bytes/s and `delay` ms that always has as much to do as the window allows. */
function transfer(rate: number, delay: number, seconds: number): Window {
  const window = new Window();
  const chunk = 64 * 1024;
  const flying: { sent: number; arrives: number }[] = [];
  let free = 0;
  for (let now = 0; now < seconds * 1000; now += 1) {
    while (flying[0] && flying[0].arrives <= now) {
      const { sent, arrives } = flying.shift() ?? { sent: 0, arrives: 0 };
      window.delivered(chunk, arrives - sent, now);
    }
    while (window.room >= chunk) {
      window.asked(chunk, now);
      free = Math.max(free, now + delay) + (chunk * 1000) / rate;
      flying.push({ sent: now, arrives: free });
    }
  }
  return window;
}

suite('window', () => {
  test('grows to its ceiling on a fast segment and stays near its floor behind a slow uplink', () => {
    assert.equal(transfer(400e6, 1, 3).target, WINDOW_DEFAULTS.ceiling);
    const { target } = transfer(0.8e6, 20, 10);
    assert.ok(target < 4 * WINDOW_DEFAULTS.floor, `${target} bytes`);
  });

  test('grows when every window is answered in one burst', () => {
    const window = new Window();
    for (let now = 0; now < 300; now += 10) {
      const bytes = window.target;
      window.asked(bytes, now);
      window.delivered(bytes, 2, now + 2);
    }
    assert.equal(window.target, WINDOW_DEFAULTS.ceiling);
  });

  test('what piled up and is read in a moment does not make a slow link look fast', () => {
    const window = new Window();
    const chunk = 64 * 1024;
    for (let now = 0; now < 100; now += 4) {
      const before = window.target;
      for (let n = 0; n < 4; n += 1) window.asked(chunk, now);
      for (let n = 0; n < 4; n += 1) window.delivered(chunk, 400, now + 1);
      assert.ok(window.target <= 2 * before, `${before} bytes, then ${window.target}`);
    }
  });

  test('keeps a long link busy', () => {
    const rate = 10e6;
    const window = transfer(rate, 100, 10);
    assert.ok(window.target > rate * 0.1, `${window.target} bytes asked of a link that holds ${rate * 0.1}`);
    assert.ok(Math.abs(window.rate - rate) < 0.2 * rate, `${window.rate} measured, ${rate} sent`);
  });

  test('an answer without bytes frees its room; an overloaded uploader is asked for less', () => {
    const window = new Window();
    window.asked(1000, 0);
    assert.equal(window.outstanding, 1000);
    window.released(1000);
    assert.equal(window.outstanding, 0);
    const { target } = transfer(10e6, 10, 3);
    const busy = transfer(10e6, 10, 3);
    busy.shrink();
    assert.ok(busy.target < target);
  });
});
