import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import type { VirtualMachine } from '../../../src/machine/virtual-machine.ts';
import { GuestLab, missingForGuests } from './guest-lab.ts';
import { MARKER } from './small-rootfs.ts';

const missing = missingForGuests();
const options = { skip: missing === '' ? false : missing, timeout: 60_000 };
const ADDRESS = 'bootmesh.address=10.88.0.99/24';
let lab: GuestLab;

before(async () => {
  if (missing === '') lab = await GuestLab.create({ signal: AbortSignal.timeout(120_000) });
});
after(async () => {
  await lab?.[Symbol.asyncDispose]();
});
afterEach(async () => {
  await lab?.publish({});
});

const signal = (): AbortSignal => AbortSignal.timeout(45_000);

async function refused(machine: VirtualMachine, reason: string): Promise<void> {
  const line = await machine.waitFor(/bootmesh: refused /, { signal: signal() });
  assert.match(line.text, new RegExp(`refused reason=${reason} `));
  assert.ok(!machine.serial.some(({ text }) => MARKER.test(text) || /switch root/.test(text)));
}

test('a rootfs with one flipped byte at every neighbour never runs', options, async () => {
  const flips = [lab.rootfs.length - 1000];
  const first = await lab.neighbour('first', { flips });
  const second = await lab.neighbour('second', { flips });
  await using machine = await lab.boot([first.url, second.url], ADDRESS, { signal: signal() });
  await refused(machine, 'piece-2-sha256');
  for (const { url } of [first, second]) {
    assert.ok(machine.serial.some(({ text }) => text.includes(`neighbour blamed url=${url} reason=piece-2-sha256`)));
  }
});

test('a ticket changed after it was signed is refused, and the machine starts over by itself', options, async () => {
  await lab.publish({ forge: (ticket) => ticket.replace('version 3', 'version 4') });
  const forger = await lab.neighbour('forger');
  await using machine = await lab.boot([forger.url], ADDRESS, { signal: signal() });
  await refused(machine, 'ticket-signature');
  assert.deepEqual(forger.ranges, [], 'nothing is fetched that no valid ticket names');
  // The machine runs with QEMU's -no-reboot: its reset ends QEMU.
  assert.deepEqual(await machine.exited, { code: 0, signal: null });
});

test('a flood is cut off; a genuine ticket of another channel, or of odd values, is refused', options, async () => {
  const flood = await lab.neighbour('flood', { flood: true });
  await lab.publish({ change: (ticket) => ticket.replace('channel production', 'channel testing') });
  const other = await lab.neighbour('channel');
  await lab.publish({ change: (ticket) => ticket.replace(/rootfs \S+/, 'rootfs $(reboot)/../x') });
  const odd = await lab.neighbour('odd');
  await using machine = await lab.boot([flood.url, other.url, odd.url, 'http://10.88.0.1;reboot:80'], ADDRESS, {
    signal: signal(),
  });
  // A neighbour that only fails is asked again when the others are out, so the machine does not give up yet.
  const times = { signal: signal() };
  const first = await machine.waitFor(`neighbour lost url=${flood.url} reason=no-ticket`, times);
  const second = await machine.waitFor(`neighbour blamed url=${odd.url} reason=ticket-content`, times);
  await machine.waitFor(`neighbour blamed url=${other.url} reason=ticket-content`, times);
  assert.ok(second.at - first.at < 4000, 'the flood was cut off by its size, not by a timeout');
  const before = flood.events.length;
  await flood.until(() => flood.events.length > before);
  assert.ok(!machine.serial.some(({ text }) => MARKER.test(text) || /switch root/.test(text)));
});
