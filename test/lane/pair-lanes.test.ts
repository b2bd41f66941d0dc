import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { suite, test } from 'node:test';
import { LANE_BITS } from '../../src/lane/lane.ts';
import { LaneRest } from '../../src/lane/lane-rest.ts';
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

  test('messages of the one who gets chunks come the other way, in order, not before the word that they do', async () => {
    for (const hidden of ['nobody', 'giver', 'taker'] as const) {
      const plans = { giver: both, taker: both, ...(hidden !== 'nobody' && { [hidden]: { ...both, dialled: false } }) };
      await using pair = await Pair.open(plans);
      await pair.settle('plain');
      const said = Array.from({ length: 50 }, () => randomBytes(1 + Math.floor(Math.random() * 2000)));
      for (const bytes of said) pair.taker.out?.write(bytes);
      await pair.send(1, randomBytes(100_000));
      await pair.taker.until(1);
      assert.deepEqual(pair.giver.heard, []);
      pair.giver.lanes.onMessage({ kind: 'lane-moved' });
      pair.taker.out?.write('end');
      const all = Buffer.concat([...said, Buffer.from('end')]);
      while (Buffer.concat(pair.giver.heard).length < all.length) await new Promise((r) => setTimeout(r, 5));
      assert.ok(Buffer.concat(pair.giver.heard).equals(all));
    }
  });

  test('who says much by the fast lane without the word that it does loses it', async () => {
    await using pair = await Pair.open({ giver: both, taker: both });
    await pair.settle('plain');
    pair.taker.out?.write(Buffer.alloc(2 * 1024 * 1024));
    while (pair.giver.deaths === 0) await new Promise((r) => setTimeout(r, 5));
    assert.deepEqual(pair.giver.heard, []);
  });

  test('a lane that dies is told to both ends, and what was not sent rejects', async () => {
    const relay = await Relay.open();
    await using pair = await Pair.open({ giver: both, taker: both }, relay);
    await pair.settle('plain');
    const sending = Array.from({ length: 200 }, (_, n) => pair.send(n, randomBytes(60_000)));
    const sent = Promise.allSettled(sending);
    await pair.taker.until(20);
    relay.cut();
    await pair.dead();
    assert.ok((await sent).some(({ status }) => status === 'rejected'));
    await assert.rejects(pair.send(200, randomBytes(100)));
    assert.deepEqual([pair.giver.deaths, pair.taker.deaths], [1, 1]);
  });

  test('after a lane that died, the next kind is taken, and the dead one rests', async () => {
    const relay = await Relay.open();
    const rest = new LaneRest();
    {
      await using pair = await Pair.open({ giver: both, taker: { ...both, rest } }, relay);
      await pair.settle('plain');
      relay.cut();
      await pair.dead();
    }
    await using pair = await Pair.open({ giver: both, taker: { ...both, rest } });
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
    await pair.dead();
  });

  test('what is no frame, or was not asked for, ends the fast lane', async () => {
    for (const allowed of [TLS, PLAIN]) {
      await using pair = await Pair.open({ giver: { allowed }, taker: { allowed } });
      await pair.settle(allowed === TLS ? 'tls' : 'plain');
      pair.taker.allow = 0;
      await pair.send(1, randomBytes(100));
      await pair.dead();
      assert.deepEqual(pair.taker.arrived, []);
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
        await pair.dead();
        assert.deepEqual(pair.taker.arrived, []);
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
