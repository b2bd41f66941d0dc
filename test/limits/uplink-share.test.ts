import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { RateCap } from '../../src/limits/rate-cap.ts';
import { UplinkShare } from '../../src/limits/uplink-share.ts';

const CAP = 2_500_000;
const PIECE = 64_000;

/** A node of the site: its own share and cap, and what it has heard of the others. */
class Neighbour {
  readonly share = new UplinkShare(CAP);
  readonly cap = new RateCap(0);
  readonly heard = new Set<number>();
  readonly flying: number[] = [];
  uses = false;
}

suite('uplink share', () => {
  test('nodes that come and go together never move more than the cap in any second', () => {
    const plan = fc.record({
      nodes: fc.integer({ min: 1, max: 6 }),
      /** Who begins or ends when, ms. */
      turns: fc.array(fc.tuple(fc.integer({ min: 0, max: 8_000 }), fc.integer({ min: 0, max: 5 })), { maxLength: 16 }),
      /** How long a word takes from one to the other, ms; and a piece from outside. */
      word: fc.integer({ min: 0, max: 450 }),
      delay: fc.integer({ min: 1, max: 200 }),
    });
    fc.assert(
      fc.property(plan, ({ nodes, turns, word, delay }) => {
        const site = Array.from({ length: nodes }, () => new Neighbour());
        const words: { at: number; from: number; uses: boolean }[] = [];
        const moved: number[] = [];
        for (let now = 0; now < 10_000; now += 5) {
          moved.push(0);
          for (const [, who] of turns.filter(([at]) => Math.floor(at / 5) * 5 === now)) {
            const node = site[who % nodes] as Neighbour;
            node.uses = !node.uses;
            if (!node.uses) for (const _ of node.flying.splice(0)) node.cap.released(PIECE);
            words.push({ at: now + word, from: who % nodes, uses: node.uses });
          }
          for (const said of words.filter(({ at }) => at <= now)) {
            words.splice(words.indexOf(said), 1);
            for (const [index, node] of site.entries()) {
              if (index === said.from) continue;
              if (said.uses) node.heard.add(said.from);
              else node.heard.delete(said.from);
            }
          }
          for (const node of site) {
            node.share.update({ uses: node.uses, others: node.heard.size, alone: nodes === 1 }, now);
            node.cap.setLimit(node.share.limit(now), now);
            while ((node.flying[0] ?? Number.POSITIVE_INFINITY) <= now) {
              node.flying.shift();
              node.cap.moved(PIECE, now);
              moved[moved.length - 1] = (moved.at(-1) ?? 0) + PIECE;
            }
            while (node.uses && node.cap.fits(PIECE, now)) {
              node.cap.take(PIECE, now);
              node.flying.push(now + delay);
            }
          }
        }
        let second = 0;
        for (const [slot, bytes] of moved.entries()) {
          second += bytes - (moved[slot - 200] ?? 0);
          assert.ok(second <= CAP, `${second} bytes in the second before ${slot * 5} ms`);
        }
      }),
      { numRuns: 400 },
    );
  });

  test('two that stay get a half each, one that is left gets all', () => {
    const share = new UplinkShare(CAP);
    share.update({ uses: true, others: 1, alone: false }, 0);
    assert.equal(share.limit(1000), 0);
    assert.equal(share.limit(1500), CAP / 2);
    share.update({ uses: true, others: 0, alone: false }, 5000);
    assert.equal(share.limit(6000), CAP / 2);
    assert.equal(share.limit(6500), CAP);
    share.update({ uses: true, others: 3, alone: false }, 7000);
    assert.equal(share.limit(7000), CAP / 4);
  });

  test('a node without neighbours need not wait, and one without a cap has no limit', () => {
    const alone = new UplinkShare(CAP);
    alone.update({ uses: true, others: 0, alone: true }, 0);
    assert.equal(alone.limit(0), CAP);
    assert.equal(new UplinkShare(Number.POSITIVE_INFINITY).limit(0), Number.POSITIVE_INFINITY);
  });
});
