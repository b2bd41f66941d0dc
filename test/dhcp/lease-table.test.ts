import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { arpEntry } from '../../src/dhcp/address-probe.ts';
import { readLeases, writeLeases } from '../../src/dhcp/lease-file.ts';
import { type Lease, LeaseTable } from '../../src/dhcp/lease-table.ts';

const pool = { from: '10.66.0.100', to: '10.66.0.119' };
const now = 1_000_000;
const lease = (address: string, mac: string, state: Lease['state'] = 'bound', life = 1000): Lease => ({
  address,
  mac,
  state,
  expiresAt: now + life,
});

describe('leases', () => {
  it('have the same address for a client on nodes that never spoke', () => {
    const macs = Array.from({ length: 12 }, (_, index) => `52:54:00:00:00:${index.toString(16).padStart(2, '0')}`);
    const chosen = macs.map((mac) => new LeaseTable(pool).choose(mac, now));
    assert.deepEqual(
      chosen,
      macs.map((mac) => new LeaseTable(pool).choose(mac, now)),
    );
    assert.ok(new Set(chosen).size > 6, 'clients spread over the pool');
  });

  it('never belong to two clients, never leave the pool, and stay bounded, whatever happens', () => {
    const mac = fc.integer({ min: 0, max: 40 }).map((n) => `02:00:00:00:00:${n.toString(16).padStart(2, '0')}`);
    const address = fc.integer({ min: 95, max: 125 }).map((n) => `10.66.0.${n}`);
    const state = fc.constantFrom('offered' as const, 'bound' as const, 'declined' as const);
    const step = fc.oneof(
      fc.record({ do: fc.constant('choose' as const), mac }),
      fc.record({ do: fc.constant('adopt' as const), mac, address, state, life: fc.nat(2000) }),
      fc.record({ do: fc.constant('release' as const), mac, address }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const table = new LeaseTable({ ...pool, reserved: (each) => each === '10.66.0.105' });
        let clock = now;
        for (const each of steps) {
          clock += 50;
          if (each.do === 'release') table.release(each.address, each.mac);
          if (each.do === 'adopt') table.adopt({ ...each, expiresAt: clock + each.life }, clock);
          if (each.do !== 'choose') continue;
          const chosen = table.choose(each.mac, clock);
          if (chosen === undefined) continue;
          assert.ok(table.contains(chosen));
          table.hold({ address: chosen, mac: each.mac, state: 'offered', expiresAt: clock + 500 });
          assert.equal(table.of(each.mac, clock)?.address, chosen);
          assert.equal(table.isFree(chosen, 'somebody else', clock), false);
        }
        assert.ok(table.size <= 20);
        const bound = table.bound(clock);
        assert.equal(new Set(bound.map((one) => one.address)).size, bound.length);
      }),
      { numRuns: 500 },
    );
  });

  it('that two nodes gave to two clients at the same time end alike on both', () => {
    const one = lease('10.66.0.101', '52:54:00:00:00:01');
    const other = lease('10.66.0.101', '52:54:00:00:00:02');
    const tables = [new LeaseTable(pool), new LeaseTable(pool)];
    tables[0]?.hold(one);
    tables[1]?.hold(other);
    tables[0]?.adopt(other, now);
    tables[1]?.adopt(one, now);
    const owners = tables.map((table) => table.bound(now).map(({ mac }) => mac));
    assert.deepEqual(owners[0], owners[1]);
    assert.equal(owners[0]?.length, 1);
  });

  it('skip addresses that strangers use, and take unused offers back when the pool is full', () => {
    const table = new LeaseTable({ from: '10.66.0.100', to: '10.66.0.101' });
    const first = table.choose('a', now) ?? '';
    table.hold(lease(first, 'a', 'declined'));
    const second = table.choose('a', now) ?? '';
    assert.notEqual(second, first);
    table.hold(lease(second, 'a', 'offered'));
    assert.equal(table.choose('b', now), second);
    table.hold(lease(second, 'a', 'bound'));
    assert.equal(table.choose('b', now), undefined);
    assert.notEqual(table.choose('b', now + 1001), undefined, 'leases end');
  });

  it('go round in heartbeats until all were told', () => {
    const table = new LeaseTable(pool);
    for (let index = 0; index < 10; index++) table.hold(lease(`10.66.0.${100 + index}`, `mac${index}`));
    const told = new Set([1, 2, 3].flatMap(() => table.nextTurn(4, now).map(({ address }) => address)));
    assert.equal(told.size, 10);
  });

  it('survive on disk; a damaged file is said to be one', async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'bm-leases-'));
    t.after(() => rm(directory, { recursive: true }));
    const file = join(directory, 'boot', 'leases.json');
    assert.deepEqual(await readLeases(file), []);
    const leases = [lease('10.66.0.101', '52:54:00:00:00:01')];
    await writeLeases(file, leases);
    assert.deepEqual(await readLeases(file), leases);
    await writeFile(file, '{"version":1,"leases":[{"address":"x"}]}');
    await assert.rejects(readLeases(file), /leases\.json holds no leases/);
  });

  it('know who answered ARP, from the kernel’s table', () => {
    const table = `IP address       HW type     Flags       HW address            Mask     Device
10.66.0.7        0x1         0x2         52:54:00:00:00:AA     *        eth0
10.66.0.8        0x1         0x0         00:00:00:00:00:00     *        eth0\n`;
    assert.equal(arpEntry(table, '10.66.0.7'), '52:54:00:00:00:aa');
    assert.equal(arpEntry(table, '10.66.0.8'), undefined);
  });
});
