import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { suite, test } from 'node:test';
import { Porter, type PorterOptions } from '../../src/limits/porter.ts';

class Caller extends EventEmitter {
  aborted = false;

  addEventListener(type: 'close', listener: () => void): void {
    this.once(type, listener);
  }

  abort(): void {
    this.aborted = true;
    this.emit('close');
  }
}

function at(options: Partial<PorterOptions> = {}) {
  const clock = { now: 1_000 };
  const porter = new Porter(options, () => clock.now);
  /** Undefined when it was turned away. */
  const knock = (address: string) => {
    if (!porter.admits(address)) return undefined;
    const caller = new Caller();
    porter.met(address, caller);
    return caller;
  };
  return { clock, porter, knock };
}

suite('porter', () => {
  test('all strangers share a rate, whatever their addresses; what is left of a quiet time comes at once', () => {
    const { clock, knock } = at({ strangers: 1_000, perSecond: 10, burst: 20 });
    const addresses = (net: number) => Array.from({ length: 1_000 }, (_, n) => `10.${net}.${n >> 8}.${n & 255}`);
    const admitted = (net: number) => addresses(net).filter((address) => knock(address) !== undefined).length;
    assert.equal(admitted(0), 20);
    clock.now += 500;
    assert.equal(admitted(1), 4);
    clock.now += 60_000;
    assert.equal(admitted(2), 20);
    clock.now += 500;
    assert.deepEqual([admitted(2), admitted(3)], [2, 2], 'half of it for those who come for the first time');
  });

  test('few strangers wait at once, and who closes makes room', () => {
    const { porter, knock } = at({ strangers: 4 });
    const callers = ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4'].map(knock);
    assert.deepEqual([porter.waiting, knock('10.0.0.5')], [4, undefined]);
    callers[2]?.emit('close');
    assert.equal(porter.waiting, 3);
    assert.ok(knock('10.0.0.5'));
  });

  test('who has said nothing for long makes room, and nobody else', () => {
    const { clock, porter, knock } = at({ strangers: 2, slowMs: 1_000 });
    const [first, second] = [knock('10.0.0.1'), knock('10.0.0.2')];
    clock.now += 999;
    assert.equal(knock('10.0.0.3'), undefined);
    clock.now += 1;
    assert.ok(knock('10.0.0.3'));
    assert.deepEqual([first?.aborted, second?.aborted, porter.waiting], [true, false, 2]);
  });

  test('one address leaves others some of the rate and of the places; a /64 is one address', () => {
    for (const own of [() => '10.0.0.1', (n: number) => `fd00::${n.toString(16)}`]) {
      const { knock } = at({ strangers: 8, burst: 100 });
      for (let n = 1; n <= 50; n += 1) knock(own(n));
      assert.ok(knock('10.0.0.2'), 'places');
    }
    const { clock, knock } = at({ strangers: 8, burst: 8, perSecond: 8 });
    for (let second = 0; second < 5; second += 1) {
      for (let n = 1; n <= 50; n += 1) knock('10.0.0.1')?.abort();
      assert.ok(knock(`10.0.0.${2 + second}`), 'rate');
      clock.now += 1_000;
    }
  });

  test('many that knock on and on leave room for one that comes for the first time, and for those behind its NAT', () => {
    const { clock, porter, knock } = at();
    const addresses = Array.from({ length: 50 }, (_, n) => `10.1.0.${n}`);
    for (let tenth = 0; tenth < 300; tenth += 1) {
      for (const address of addresses) knock(address)?.abort();
      clock.now += 100;
    }
    const newcomer = knock('10.2.0.1');
    assert.ok(newcomer);
    porter.knows('fd00::1', newcomer);
    let admitted = 0;
    for (let n = 2; n < 40; n += 1) if (knock(`fd00::${n}`)) admitted += 1;
    assert.ok(admitted > 8, `${admitted} of the /64 that a member came from`);
  });

  test('an address of a member never waits, by whichever socket it comes', () => {
    const { porter, knock } = at({ strangers: 1, burst: 1, perSecond: 0 });
    porter.welcome('10.0.0.9');
    const stranger = knock('10.0.0.1');
    assert.equal(knock('10.0.0.8'), undefined);
    assert.ok(knock('10.0.0.9') && knock('::ffff:10.0.0.9'));
    assert.ok(stranger);
    porter.knows('10.0.0.1', stranger);
    assert.equal(porter.waiting, 0);
    assert.ok(knock('10.0.0.1'), 'a member was met there');
  });

  test('no more addresses are remembered than it says, and those used last', () => {
    const { porter, knock } = at({ familiar: 2, burst: 0 });
    for (const address of ['10.0.0.1', '10.0.0.2', '10.0.0.1', '10.0.0.3']) porter.welcome(address);
    const known = ['10.0.0.1', '10.0.0.2', '10.0.0.3'].map((address) => knock(address) !== undefined);
    assert.deepEqual(known, [true, false, true]);
  });
});
