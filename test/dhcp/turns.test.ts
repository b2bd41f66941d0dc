import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Turns } from '../../src/dhcp/turns.ts';
import { rankNodes } from '../../src/schedule/answer.ts';

const mac = '52:54:00:00:00:01';
const eligible = ['a', 'b', 'c', 'd', 'e', 'f'];
const order = rankNodes(mac, eligible);
const question = { mac, key: mac, xid: 7, stage: 'discover', eligible };
const nth = (place: number) => order[place] ?? '';

describe('turns', () => {
  it('come at 0, 250 and 500 ms: three nodes answer when no claim is heard, and nobody else', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const answered: string[] = [];
    for (const self of order) new Turns({ self }).take(question, ({ rank }) => answered.push(`${self}${rank}`));
    assert.deepEqual(answered, [`${nth(0)}0`]);
    t.mock.timers.tick(249);
    assert.equal(answered.length, 1);
    t.mock.timers.tick(1);
    assert.equal(answered.length, 2);
    t.mock.timers.tick(5000);
    assert.deepEqual(
      answered,
      [0, 1, 2].map((rank) => `${nth(rank)}${rank}`),
    );
  });

  it('are given up when another node claims the client, even a little earlier', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const answered: number[] = [];
    const late = new Turns({ self: nth(1) });
    late.take(question, ({ rank }) => answered.push(rank));
    late.claimed(mac, 7);
    const early = new Turns({ self: nth(2) });
    early.claimed(mac, 7);
    early.take(question, ({ rank }) => answered.push(rank));
    t.mock.timers.tick(5000);
    assert.deepEqual(answered, []);
  });

  it('are given up for a claim that arrived while the process was busy', async () => {
    const answered: number[] = [];
    using late = new Turns({ self: nth(1) });
    late.take(question, ({ rank }) => answered.push(rank));
    const busyUntil = performance.now() + 300;
    while (performance.now() < busyUntil);
    // Node runs due timers first, then reads the sockets.
    setImmediate(() => late.claimed(mac, 7));
    await delay(100);
    assert.equal(answered.length + late.waiting, 0);
    late.take({ ...question, xid: 8, mac: 'another' }, ({ rank }) => answered.push(rank));
    while (performance.now() < busyUntil + 400);
    await delay(100);
    assert.deepEqual(answered, [1], 'and only for a claim');
  });

  it('pass to the next node when the client asks again', () => {
    const answered: string[] = [];
    const all = order.map((self) => new Turns({ self }));
    for (let round = 0; round < 3; round++) {
      for (const [place, turns] of all.entries()) {
        turns.take(question, ({ rank }) => rank === 0 && answered.push(nth(place)));
      }
      for (const turns of all) turns[Symbol.dispose]();
    }
    assert.deepEqual(answered, order.slice(0, 3));
  });

  it('of hostile clients are bounded', () => {
    const turns = new Turns({ self: nth(2) });
    for (let xid = 0; xid < 20_000; xid++) turns.take({ ...question, xid, mac: `m${xid}` }, () => {});
    assert.equal(turns.waiting, 256);
    turns[Symbol.dispose]();
    assert.equal(turns.waiting, 0);
  });
});
