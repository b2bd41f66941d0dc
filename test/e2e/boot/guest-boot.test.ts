import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startMachine, type VirtualMachine } from '../../../src/machine/virtual-machine.ts';
import { GuestLab, missingForGuests, PIECE } from './guest-lab.ts';
import { MARKER } from './small-rootfs.ts';

const missing = missingForGuests();
const options = { skip: missing === '' ? false : missing, timeout: 60_000 };
let lab: GuestLab;

before(async () => {
  if (missing === '') lab = await GuestLab.create({ signal: AbortSignal.timeout(120_000) });
});
after(async () => {
  await lab?.[Symbol.asyncDispose]();
});

const signal = (): AbortSignal => AbortSignal.timeout(45_000);

async function upWithTheRightRootfs(machine: VirtualMachine): Promise<void> {
  const up = await machine.waitFor(MARKER, { signal: signal() });
  assert.equal(MARKER.exec(up.text)?.[1], lab.rootfsSha256, 'the guest mounted exactly what was published');
  await machine.waitFor('guest can write', { signal: signal() });
  assert.equal(machine.resets, 0);
}

test('a guest that resets itself is the same process, and the reset is counted', options, async () => {
  const machineOptions = {
    name: 'panic',
    nics: [],
    memoryMb: 256,
    serialLog: `${lab.directory}/panic.log`,
    boot: { kernel: lab.kernel, initramfs: `${lab.directory}/initramfs`, cmdline: 'rdinit=/none quiet panic=-1' },
    reboot: true,
  };
  await using machine = await startMachine(machineOptions, { signal: signal() });
  await machine.waitFor(/SeaBIOS/, { signal: signal() });
  const after = machine.position;
  await machine.waitFor(/SeaBIOS/, { signal: signal(), after });
  assert.equal(machine.resets, 1);
  process.kill(machine.pid, 0);
});

test('a machine gets an address, passes a neighbour without the release over, and comes up', options, async () => {
  await lab.dhcp();
  const other = await lab.neighbour('other', { channel: 'another' });
  const good = await lab.neighbour('good');
  await using machine = await lab.boot([other.url, good.url], 'bootmesh.version=3', { signal: signal() });
  await upWithTheRightRootfs(machine);
  const events = machine.serial.flatMap((line) => /^bootmesh: (.*) t=\d+\.\d+$/.exec(line.text)?.[1] ?? []);
  const expected = [
    /^init kernel=6\./,
    /^net up address=eth1\/10\.88\.0\.1\d\d\/24$/,
    new RegExp(`^neighbour lost url=${other.url} reason=no-ticket$`),
    new RegExp(`^ticket ok channel=production version=3 .* from=${good.url}$`),
    /^rootfs start cid=\w+ bytes=\d+ pieces=3$/,
    new RegExp(`^rootfs from=${good.url}$`),
    new RegExp(`^rootfs ok sha256=${lab.rootfsSha256} bytes=${lab.rootfs.length} from=${good.url} seconds=\\d+$`),
    /^switch root$/,
  ];
  const timeline = events.filter((event) => !event.startsWith('rootfs progress'));
  assert.equal(timeline.length, expected.length, timeline.join('\n'));
  for (const [index, pattern] of expected.entries()) assert.match(timeline[index] ?? '', pattern);
});

test('over IPv6 alone, a neighbour killed in the middle of a piece is replaced at the very byte', options, async () => {
  const dying = await lab.neighbour('dying', { pauseAfter: PIECE / 2 });
  const steady = await lab.neighbour('steady');
  await using machine = await lab.boot([dying.url6, steady.url6], 'bootmesh.address=fd88::99/64', { signal: signal() });
  await dying.until((event) => event.event === 'paused');
  const killedAt = Date.now();
  dying.kill();
  const lost = await machine.waitFor(`neighbour lost url=${dying.url6} reason=closed`, { signal: signal() });
  await upWithTheRightRootfs(machine);
  assert.ok(lost.at - killedAt < 4000, `left ${lost.at - killedAt} ms after its end`);
  const resumed = Number(/^bytes=(\d+)-/.exec(steady.ranges[0] ?? '')?.[1]);
  assert.ok(resumed > 0 && resumed <= PIECE / 2, `first range of the other neighbour: ${steady.ranges[0]}`);
});

test('a neighbour whose link goes down without a word is left within 10 s', options, async () => {
  const silent = await lab.neighbour('silent', { pauseAfter: PIECE + PIECE / 2 });
  const steady = await lab.neighbour('steady2');
  const address = 'bootmesh.address=10.88.0.99/24';
  await using machine = await lab.boot([silent.url, steady.url], address, { signal: signal() });
  await silent.until((event) => event.event === 'paused');
  const goneAt = Date.now();
  await silent.unplug();
  const before = steady.ranges.length;
  await machine.waitFor(`neighbour lost url=${silent.url} reason=silent`, { signal: signal() });
  await steady.until(() => steady.ranges.length > before);
  assert.ok(Date.now() - goneAt < 10_000, `went on after ${Date.now() - goneAt} ms`);
  await upWithTheRightRootfs(machine);
});

test('a neighbour that flips one byte is blamed and not asked again', options, async () => {
  const liar = await lab.neighbour('liar', { flips: [PIECE + 4711] });
  const honest = await lab.neighbour('honest');
  const address = 'bootmesh.address=10.88.0.99/24';
  // Pieces take turns: the second one, with the wrong byte, is the second neighbour's.
  await using machine = await lab.boot([honest.url, liar.url], address, { signal: signal() });
  await upWithTheRightRootfs(machine);
  await machine.waitFor(`neighbour blamed url=${liar.url} reason=piece-1-sha256`, { signal: signal() });
  assert.deepEqual(liar.ranges, [`bytes=${PIECE}-${2 * PIECE - 1}`]);
  assert.equal(honest.ranges.length, 3);
});
