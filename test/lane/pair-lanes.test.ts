import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { suite, test } from 'node:test';
import { LANE_BITS } from '../../src/lane/lane.ts';
import { Pair, Relay } from './pair.ts';

const { tls: TLS, plain: PLAIN } = LANE_BITS;
const both = { allowed: TLS | PLAIN };

suite('lanes of a pair', { timeout: 30_000 }, () => {
  for (const [name, giver, taker, expected] of [
    ['both ends allow everything', TLS | PLAIN, TLS | PLAIN, 'plain'],
    ['one end does not trust the network', TLS | PLAIN, TLS, 'tls'],
    ['the other end does not', TLS, TLS | PLAIN, 'tls'],
    ['one end has them switched off', 0, TLS | PLAIN, 'stream'],
    ['they agree on none', TLS, PLAIN, 'stream'],
  ] as const) {
    test(`${name}: ${expected}`, async () => {
      await using pair = await Pair.open({ giver: { allowed: giver }, taker: { allowed: taker } });
      await pair.settle(expected);
      const sent = Array.from({ length: 40 }, () => randomBytes(1 + Math.floor(Math.random() * 200_000)));
      await Promise.all(sent.map((bytes, n) => pair.send(n, bytes)));
      for (const { request, bytes, by } of await pair.taker.until(sent.length)) {
        assert.equal(by, expected);
        assert.ok(sent[request]?.equals(bytes));
      }
      if (expected === 'stream') assert.deepEqual(pair.taker.said, [], 'nothing was asked');
    });
  }

  test('who cannot be dialled dials, whichever end it is', async () => {
    for (const hidden of ['giver', 'taker'] as const) {
      const plans = { giver: both, taker: both, [hidden]: { ...both, dialled: false } };
      await using pair = await Pair.open(plans);
      await pair.settle('plain');
      const sent = randomBytes(500_000);
      await pair.send(1, sent);
      const [frame] = await pair.taker.until(1);
      assert.ok(sent.equals(frame?.bytes ?? new Uint8Array()));
      assert.equal(frame?.by, 'plain');
    }
  });

  test('a lane that dies takes no request with it: each frame arrives, or its request is named as lost', async () => {
    const relay = await Relay.open();
    await using pair = await Pair.open({ giver: both, taker: both }, relay);
    await pair.settle('plain');
    const sent = Array.from({ length: 200 }, () => randomBytes(60_000));
    const sending = Promise.all(sent.map((bytes, n) => pair.send(n, bytes)));
    await pair.taker.until(20);
    relay.cut();
    await sending;
    await pair.settle('stream');
    const arrived = new Set(pair.taker.arrived.map(({ request }) => request));
    const lost = new Set(pair.giver.lost);
    for (const n of sent.keys()) assert.ok(arrived.has(n) || lost.has(n), `request ${n}`);
    assert.ok(pair.taker.arrived.some(({ by }) => by === 'plain'));
    assert.ok(
      pair.taker.arrived.some(({ by }) => by === 'stream'),
      'what had not left went by the stream',
    );
    for (const { request, bytes } of pair.taker.arrived) assert.ok(sent[request]?.equals(bytes));
  });

  test('after a lane that died, the next kind is tried, and the dead one rests', async () => {
    const relay = await Relay.open();
    await using pair = await Pair.open({ giver: both, taker: both }, relay);
    await pair.settle('plain');
    relay.cut();
    await pair.settle('stream');
    relay.redirect = (message) => message;
    await pair.settle('tls');
  });

  test('a lane through which nothing comes any more is left at a word', async () => {
    const relay = await Relay.open();
    await using pair = await Pair.open({ giver: both, taker: both }, relay);
    await pair.settle('plain');
    relay.freeze();
    await pair.send(7, randomBytes(1000));
    assert.equal(pair.taker.lanes.leave('nothing came'), true);
    assert.equal(pair.taker.lanes.leave('again'), false);
    for (let n = 0; n < 200 && pair.giver.lost.length === 0; n += 1) await new Promise((r) => setTimeout(r, 5));
    assert.deepEqual(pair.giver.lost, [7]);
    await pair.send(8, randomBytes(1000));
    assert.deepEqual(
      (await pair.taker.until(1)).map(({ request, by }) => [request, by]),
      [[8, 'stream']],
    );
  });

  test('what is no frame, or was not asked for, ends the fast lane and nothing else', async () => {
    for (const allowed of [TLS, PLAIN]) {
      await using pair = await Pair.open({ giver: { allowed }, taker: { allowed } });
      await pair.settle(allowed === TLS ? 'tls' : 'plain');
      pair.taker.allow = 0;
      await pair.send(1, randomBytes(100));
      await pair.settle('stream');
      pair.taker.allow = 1000;
      await pair.send(2, randomBytes(100));
      assert.equal((await pair.taker.until(1))[0]?.request, 2);
    }
  });

  test('changed on the way: TLS does not pass it on, plain does, for the hash to find', async () => {
    for (const [kind, allowed] of [
      ['tls', TLS],
      ['plain', PLAIN],
    ] as const) {
      const relay = await Relay.open();
      await using pair = await Pair.open({ giver: { allowed }, taker: { allowed } }, relay);
      await pair.settle(kind);
      const sent = randomBytes(10_000);
      relay.change = (bytes) => {
        bytes[5_000] = (bytes[5_000] ?? 0) ^ 1;
        return bytes;
      };
      await pair.send(1, sent);
      if (kind === 'tls') {
        await pair.settle('stream');
        assert.deepEqual(pair.taker.arrived, []);
        assert.deepEqual(pair.giver.lost, [1]);
      } else {
        const [frame] = await pair.taker.until(1);
        assert.equal(sent.equals(frame?.bytes ?? sent), false);
      }
    }
  });

  test('a peer that asks for lane after lane gets few tickets', async () => {
    await using pair = await Pair.open({ giver: both, taker: both });
    for (let n = 0; n < 100; n += 1) pair.giver.lanes.onMessage({ kind: 'lane-ask', lanes: TLS });
    const tickets = pair.giver.said.filter((said) => said.kind === 'lane-ticket' && said.ticket !== undefined);
    assert.equal(tickets.length, 4);
  });
});
