import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { NEWS_DEFAULTS, News } from '../../src/schedule/news.ts';

const NEVER = Number.POSITIVE_INFINITY;
/** Chunks that are left when the end is far. */
const FAR = 1_000_000;

suite('news', () => {
  test('the first is told soon, the next ones together, the later the more there are to tell', () => {
    const news = new News();
    assert.equal(news.nearAt(8, false), NEVER);
    news.stored(1, { first: true, left: FAR }, 1000);
    assert.equal(news.nearAt(8, false), 1000 + NEWS_DEFAULTS.nearShortestMs);
    assert.deepEqual(news.takeNear(1005).added, [1]);
    news.stored(2, { first: false, left: FAR }, 1006);
    const waits = [5, 12, 400].map((links) => news.nearAt(links, false) - 1005);
    assert.deepEqual(waits, [
      5 * NEWS_DEFAULTS.nearMsPerLink,
      2 * 12 * NEWS_DEFAULTS.nearMsPerLink,
      NEWS_DEFAULTS.nearLongestMs,
    ]);
    assert.equal(news.nearAt(0, true), NEVER);
  });

  test('when chunks come slowly, about three are told together, but not those that a reader waited for', () => {
    const news = new News();
    const every = 40;
    for (let n = 0; n < 60; n += 1) news.stored(n, { first: false, left: FAR }, n * every);
    const last = 59 * every;
    news.takeNear(last);
    news.stored(60, { first: false, left: FAR }, last + every);
    const wait = news.nearAt(4, false) - last;
    assert.ok(wait > 0.95 * NEWS_DEFAULTS.nearChunks * every && wait <= NEWS_DEFAULTS.nearChunks * every, `${wait} ms`);
    news.stored(61, { first: false, awaited: true, left: FAR }, last + every);
    assert.equal(news.nearAt(4, false), last + every + NEWS_DEFAULTS.nearShortestMs);
    news.takeNear(last + 50);
    for (let n = 62; n < 70; n += 1) news.stored(n, { first: false, left: FAR }, last + n * 100_000);
    news.takeNear(last + 69 * 100_000);
    news.stored(70, { first: false, left: FAR }, last + 69 * 100_000 + 1);
    assert.equal(news.nearAt(4, false) - last - 69 * 100_000, NEWS_DEFAULTS.nearLongestMs);
  });

  test('near the end of a download they wait a small share of the time that it still takes', () => {
    const news = new News();
    const every = 20;
    for (let n = 0; n < 100; n += 1) news.stored(n, { first: false, left: FAR }, n * every);
    const last = 99 * every;
    news.takeNear(last);
    const waitWith = (left: number) => {
      news.stored(100, { first: false, left }, last + 1);
      return news.nearAt(30, false) - last;
    };
    assert.equal(waitWith(FAR), NEWS_DEFAULTS.nearLongestMs);
    const near = waitWith(40);
    assert.ok(near > 0.5 * NEWS_DEFAULTS.nearShare * 40 * every && near < NEWS_DEFAULTS.nearShare * 40 * every);
    assert.equal(waitWith(1), 1 + NEWS_DEFAULTS.nearShortestMs);
    news.lost(3, last + 2);
    assert.equal(news.nearAt(30, false) - last, NEWS_DEFAULTS.nearLongestMs, 'what is lost is in no hurry');
  });

  test('who downloads is heard of although there is no news', () => {
    const news = new News();
    assert.ok(news.nearAt(3, true) <= 0);
    news.takeNear(5000);
    assert.equal(news.nearAt(3, true), 5000 + NEWS_DEFAULTS.beatMs);
    assert.equal(news.nearAt(3, false), NEVER);
  });

  test('peers outside hear of first copies alone, once a second, and of no claims', () => {
    const news = new News();
    news.claim(3, 0);
    assert.equal(news.farAt(4), NEVER);
    news.stored(3, { first: true, left: FAR }, 10);
    news.stored(4, { first: false, left: FAR }, 10);
    assert.deepEqual(news.takeFar(100), { added: [3], lost: [], claimed: [], unclaimed: [] });
    news.stored(5, { first: true, left: FAR }, 110);
    assert.equal(news.farAt(4), 100 + NEWS_DEFAULTS.farMs);
    assert.equal(news.farAt(40), 100 + 40 * NEWS_DEFAULTS.farMsPerLink);
    assert.deepEqual(news.takeNear(200).added, [3, 4, 5]);
  });

  test('a claim that was never told is not taken back either; one that is in a hurry waits for nothing', () => {
    const news = new News();
    news.claim(1, 0);
    news.claim(2, 0);
    news.unclaim(1, 0);
    assert.deepEqual(news.takeNear(1), { added: [], lost: [], claimed: [2], unclaimed: [] });
    news.unclaim(2, 2);
    news.hurry();
    assert.equal(news.nearAt(50, false), 2);
    assert.deepEqual(news.takeNear(3).unclaimed, [2]);
  });
});
