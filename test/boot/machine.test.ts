import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { startMachine, type VirtualMachine } from '../../src/machine/virtual-machine.ts';
import { missingForGuests } from '../e2e/boot/guest-lab.ts';
import { SegmentLab, type SegmentNode } from './segment-lab.ts';

/** A bare machine on the segment: QEMU's PXE ROM, no disk. */
async function machine(lab: SegmentLab, number: number, signal: AbortSignal): Promise<VirtualMachine> {
  await lab.switch.addTap(`tap${number}`, 'br0');
  return await startMachine(
    {
      name: `vm${number}`,
      namespace: lab.switch.name,
      nics: [{ tap: `tap${number}`, mac: `52:54:00:00:08:0${number}` }],
      serialLog: join(lab.directory, `vm${number}.log`),
      boot: 'pxe',
      memoryMb: 256,
    },
    { signal },
  );
}

const missing = missingForGuests();

describe('bare machines', { skip: missing !== '' && missing }, () => {
  // The ROM of 2019 waits 16 s for an IPv6 router before it goes on: that is most of the time here.
  it('get address, script and a list of three neighbours, and reset when none delivers', {
    timeout: 120_000,
  }, async (t) => {
    const { signal } = t;
    await using lab = await SegmentLab.create(['a', 'b', 'c']);
    const pool = { from: '10.66.0.100', to: '10.66.0.150' };
    const nodes: SegmentNode[] = await Promise.all(['a', 'b', 'c'].map((name, n) => lab.node(name, n + 1, { pool })));
    for (const node of nodes) {
      await node.until(({ neighbours, role }) => neighbours.length === 2 && role === 'server');
      await node.until(({ neighbours }) => neighbours.every(({ answering }) => answering));
    }
    await using first = await machine(lab, 1, signal);
    await using second = await machine(lab, 2, signal);
    const machines = [first, second];
    await Promise.all(machines.map((vm) => vm.waitFor(/bootmesh: no neighbour delivered, resetting/, { signal })));

    const statuses = await Promise.all(nodes.map((node) => node.status()));
    const leases = statuses[0]?.leases.map(({ address, mac }) => [mac, address]) ?? [];
    assert.deepEqual(leases.map(([mac]) => mac).sort(), ['52:54:00:00:08:01', '52:54:00:00:08:02']);
    for (const [index, vm] of machines.entries()) {
      const said = vm.serial.map(({ text }) => text).join('\n');
      const own = Object.fromEntries(leases)[`52:54:00:00:08:0${index + 1}`];
      assert.match(said, new RegExp(`net0: ${own?.replaceAll('.', '\\.')}/255\\.255\\.255\\.0`));
      assert.match(said, /bootmesh: script channel=production version=1/);
      for (const { address } of nodes) assert.match(said, new RegExp(`kernel failed from=http://${address}:8080`));
    }
    // All nodes agree who has what, and each machine asked each of them for the kernel, three times.
    for (const { leases: theirs } of statuses) assert.equal(theirs.length, 2);
    for (const { requested } of nodes) {
      assert.equal(requested.filter((path) => path === '/artifact/kernelcid').length, 6);
    }
    const events = statuses.flatMap((status) => status.events);
    assert.equal(events.filter(({ event }) => event === 'boot:script').length, 2);
    assert.equal(events.filter(({ event, reply }) => event === 'boot:dhcp' && reply === 'ack').length, 2);
  });
});
