import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import type { InterfaceDump } from '../../src/overlay/dump.ts';
import { type Companion, Shortcuts } from '../../src/overlay/shortcuts.ts';

const companion = (publicKey: string, endpoints = ['198.51.100.7:51820']): Companion => ({
  publicKey,
  address: `fd00:0:0:2::${publicKey}`,
  endpoints,
});
const START = 1_795_000_000;

/** One interface and its clock: what is asked for is there at the next look, and sessions begin where they are told to. */
class Interface {
  readonly shortcuts = new Shortcuts();
  #now = 0;
  #present: readonly string[] = [];

  look(companions: readonly Companion[], { after = 1, heard = [] as readonly string[] } = {}) {
    this.#now += after * 1000;
    const time = START + this.#now / 1000;
    const peer = (publicKey: string) => ({ publicKey, allowedIps: [], bytesIn: 0, bytesOut: 0 });
    const peers = this.#present.map((key) => ({ ...peer(key), ...(heard.includes(key) && { handshakeAt: time - 1 }) }));
    const dump: InterfaceDump = { publicKey: 'own', listenPort: 1, peers };
    const wanted = this.shortcuts.look(companions, dump, { now: this.#now, time });
    this.#present = wanted.map(({ publicKey }) => publicKey);
    return Object.fromEntries(wanted.map(({ publicKey, allowedIps }) => [publicKey, allowedIps.join(' ')]));
  }
}

suite('shortcuts', () => {
  test('have no address before there is a session, and then the member’s own and no other', () => {
    const one = new Interface();
    const b = [companion('b')];
    assert.deepEqual(one.look(b), { b: '' });
    assert.equal(one.shortcuts.pending, true);
    assert.deepEqual(one.look(b), { b: '' });
    assert.deepEqual(one.look(b, { heard: ['b'] }), { b: 'fd00:0:0:2::b/128' });
    assert.equal(one.shortcuts.pending, false);
    assert.deepEqual(one.look([]), {}, 'gone with the connection');
    assert.deepEqual(one.look([companion('c', [])]), {}, 'nobody knows where it is');
  });

  test('are given up after 25 s, and tried again later and later', () => {
    const one = new Interface();
    const b = [companion('b')];
    const begun: number[] = [];
    let before = false;
    for (let minute = 0; minute < 200; minute += 0.25) {
      const there = 'b' in one.look(b, { after: 15 });
      if (there && !before) begun.push(Math.round(minute));
      before = there;
    }
    assert.deepEqual(begun, [0, 11, 31, 72, 132, 193]);
  });

  test('that break soon, again and again, are left to the gateway for an hour', () => {
    const one = new Interface();
    const b = [companion('b')];
    for (let times = 0; times < 3; times += 1) {
      assert.deepEqual(one.look(b), { b: '' });
      assert.deepEqual(one.look(b, { heard: ['b'] }), { b: 'fd00:0:0:2::b/128' });
      assert.deepEqual(one.look([]), {});
    }
    assert.deepEqual(one.look(b), {});
    assert.deepEqual(one.look(b, { after: 3601 }), { b: '' });
    assert.deepEqual(one.look(b, { heard: ['b'] }), { b: 'fd00:0:0:2::b/128' });
    assert.deepEqual(one.look(b, { after: 90, heard: ['b'] }), { b: 'fd00:0:0:2::b/128' });
    assert.deepEqual(one.look([]), {});
    assert.deepEqual(one.look(b), { b: '' }, 'one that has lasted is forgiven');
  });

  test('are only those of companions, each with its address or none, and not more than 128', () => {
    const key = fc.integer({ min: 0, max: 400 }).map(String);
    const step = fc.record({
      met: fc.uniqueArray(key, { maxLength: 300 }),
      heard: fc.array(key),
      after: fc.integer({ min: 0, max: 5_000 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const one = new Interface();
        for (const { met, ...facts } of steps) {
          const wanted = one.look(
            met.map((each) => companion(each)),
            facts,
          );
          assert.ok(Object.keys(wanted).length <= 128);
          for (const [each, address] of Object.entries(wanted)) {
            assert.ok(met.includes(each));
            assert.ok(['', `fd00:0:0:2::${each}/128`].includes(address));
          }
        }
      }),
    );
  });
});
