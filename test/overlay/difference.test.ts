import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { difference, type Trial } from '../../src/overlay/difference.ts';
import type { InterfaceDump, PeerDump } from '../../src/overlay/dump.ts';
import type { PlannedPeer } from '../../src/overlay/peer-plan.ts';

const TIME = 1_000_000;
const options = { keepalive: { near: 0, far: 25 }, atOnce: 32, now: 0, time: TIME };
const NONE: ReadonlyMap<string, Trial> = new Map();

const planned = (publicKey: string, more: Partial<PlannedPeer> = {}): PlannedPeer => ({
  publicKey,
  allowedIps: [`fd00::${publicKey}/128`],
  endpoints: ['192.0.2.1:1', '192.0.2.2:2'],
  far: false,
  ...more,
});
const present = (publicKey: string, more: Partial<PeerDump> = {}): PeerDump => ({
  publicKey,
  allowedIps: [`fd00::${publicKey}/128`],
  bytesIn: 0,
  bytesOut: 0,
  handshakeAt: TIME - 10,
  ...more,
});
const dump = (...peers: PeerDump[]): InterfaceDump => ({ publicKey: 'own', listenPort: 51820, peers });

suite('difference between an interface and its plan', () => {
  test('is nothing when all is right, and names no peer that is', () => {
    const { remove, set } = difference(dump(present('1'), present('2')), [planned('1'), planned('2')], NONE, options);
    assert.deepEqual({ remove, set }, { remove: [], set: [] });
    const one = difference(dump(present('1')), [planned('1'), planned('2')], NONE, options);
    assert.deepEqual([one.remove, one.set.map(({ publicKey }) => publicKey)], [[], ['2']]);
    assert.deepEqual(difference(dump(present('1'), present('2')), [planned('1')], NONE, options).remove, ['2']);
  });

  test('a new peer gets its address, its first endpoint, and a reason to begin', () => {
    const { set } = difference(dump(), [planned('1')], NONE, options);
    const expected = { publicKey: '1', allowedIps: ['fd00::1/128'], endpoint: '192.0.2.1:1', keepalive: 25 };
    assert.deepEqual(set, [expected]);
    const begun = difference(dump(present('1', { keepalive: 25 })), [planned('1')], NONE, options);
    assert.deepEqual(begun.set, [{ publicKey: '1', keepalive: 0 }], 'and none once it has a session');
    const natted = difference(dump(present('1', { keepalive: 25 })), [planned('1', { far: true })], NONE, options);
    assert.deepEqual(natted.set, []);
  });

  test('of many that are to be begun with, some at a time: power that returns to a site is no storm', () => {
    const plan = Array.from({ length: 100 }, (_, n) => planned(String(n)));
    const interfaces: PeerDump[] = [];
    let trials = NONE;
    const begun: number[] = [];
    for (let now = 0; now < 5; now += 1) {
      const { set, waiting, trials: next } = difference(dump(...interfaces), plan, trials, { ...options, now });
      begun.push(set.filter(({ endpoint }) => endpoint !== undefined).length);
      assert.equal(waiting, 100 - begun.reduce((sum, each) => sum + each, 0));
      for (const { publicKey, keepalive = 0 } of set) {
        const found = interfaces.findIndex((peer) => peer.publicKey === publicKey);
        const { handshakeAt: _, ...silent } = present(publicKey);
        interfaces.splice(found < 0 ? interfaces.length : found, 1, { ...silent, ...(keepalive > 0 && { keepalive }) });
      }
      trials = next;
    }
    assert.deepEqual(begun, [32, 32, 32, 4, 0]);
    const alive = difference(dump(...plan.map(({ publicKey }) => present(publicKey))), plan, NONE, options);
    assert.deepEqual([alive.set, alive.waiting], [[], 0], 'those who were begun with from their end are not');
  });

  test('addresses that somebody else gave it are taken away before their owner gets them back', () => {
    const thief = present('1', { allowedIps: ['::/0', 'fd00::1/128', 'fd00::2/128'] });
    const victim = present('2', { allowedIps: [] });
    const { set } = difference(dump(victim, thief), [planned('2'), planned('1')], NONE, options);
    assert.deepEqual(set, [
      { publicKey: '1', allowedIps: ['fd00::1/128'] },
      { publicKey: '2', allowedIps: ['fd00::2/128'] },
    ]);
  });

  test('an endpoint that stays silent makes room for the next; one that answers stays, wherever it went', () => {
    let trials = difference(dump(), [planned('1')], NONE, options).trials;
    const silent = (bytesOut: number) => dump(present('1', { handshakeAt: 0, bytesOut, keepalive: 25 }));
    const endpointAt = (now: number, bytesOut: number) => {
      const found = difference(silent(bytesOut), [planned('1')], trials, { ...options, now });
      trials = found.trials;
      return found.set[0]?.endpoint;
    };
    assert.equal(endpointAt(5_000, 148), undefined, 'it has time');
    assert.equal(endpointAt(10_000, 148), '192.0.2.2:2');
    assert.equal(endpointAt(40_000, 148), undefined, 'nothing was sent there');
    assert.equal(endpointAt(41_000, 296), '192.0.2.1:1', 'and from the start again');
    const roamed = present('1', { endpoint: '203.0.113.9:9', keepalive: 25 });
    const alive = difference(dump(roamed), [planned('1')], trials, { ...options, now: 90_000 });
    assert.equal(alive.set[0]?.endpoint, undefined);
  });

  test('a peer that is nowhere known waits for the other to begin', () => {
    const { set, trials } = difference(dump(), [planned('1', { endpoints: [] })], NONE, options);
    assert.deepEqual(set, [{ publicKey: '1', allowedIps: ['fd00::1/128'] }]);
    const known = difference(dump(present('1', { handshakeAt: 0 })), [planned('1')], trials, options);
    assert.equal(known.set[0]?.endpoint, '192.0.2.1:1', 'until it is');
  });

  test('of many new peers some are begun with at a time, and all are known at once', () => {
    const plan = Array.from({ length: 100 }, (_, n) => planned(String(n)));
    const first = difference(dump(), plan, NONE, options);
    assert.equal(first.set.length, 100);
    assert.equal(first.set.filter(({ keepalive }) => keepalive === 25).length, 32);
    const peers = plan.map(({ publicKey }) => present(publicKey, { handshakeAt: 0 }));
    const second = difference(dump(...peers), plan, first.trials, { ...options, now: 5_000 });
    assert.equal(second.trials.size, 64);
  });
});
