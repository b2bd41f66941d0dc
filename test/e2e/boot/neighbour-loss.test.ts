import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { PublishResult } from '../../../src/admin/results.ts';
import type { Lab } from '../../../src/lab/lab.ts';
import { Namespace } from '../../../src/lab/namespace.ts';
import { readCounter, reshape } from '../../../src/lab/shaping.ts';
import type { VirtualMachine } from '../../../src/machine/virtual-machine.ts';
import { CMDLINE, openSite, PIECE } from './boot-site.ts';
import { missingForGuests } from './guest-lab.ts';
import { MARKER } from './small-rootfs.ts';

const missing = missingForGuests();
const options = { skip: missing === '' ? false : missing, timeout: 120_000 };
/** Slow enough to fail in the middle of a piece: the rootfs takes some eight seconds, a piece one and a half. */
const SLOW_BIT_PER_SECOND = 24e6;
const FAST_BIT_PER_SECOND = 1e9;
const WITHIN_MS = 10_000;

const DESCRIPTION = `
fleet: neighbour-loss
channels: [demo]
sites: { here: { lan: 1Gbit } }
nodes:
  north: { site: here, roles: [origin, seed], boot: auto }
  east: { site: here, boot: auto }
  west: { site: here, boot: auto }
machines:
  first: { segment: here, memory: 512MiB }
  second: { segment: here, memory: 512MiB }
  third: { segment: here, memory: 512MiB }
`;

let scene: Awaited<ReturnType<typeof openSite>>;
let published: PublishResult;

before(async () => {
  if (missing !== '') return;
  const signal = AbortSignal.timeout(90_000);
  scene = await openSite(DESCRIPTION, { signal });
  const { site } = scene;
  [published] = await Promise.all([site.publish(CMDLINE, { signal }), site.start(['east', 'west'], { signal })]);
  await site.untilHeld(['north', 'east', 'west'], { signal });
});
after(async () => {
  await scene?.[Symbol.asyncDispose]();
});

test('the neighbour that sends the kernel is killed: the script goes on with the next', options, async (t) => {
  const { lab } = scene.site;
  const signal = AbortSignal.timeout(options.timeout);
  await limit('first', SLOW_BIT_PER_SECOND);
  await using vm = await lab.startMachine('first', {}, { signal });
  const lost = await untilSent(lab, { after: await sent(lab), bytes: 3e6, signal });
  await lab.stopNode(lost, { signal: 'SIGKILL' });
  const failed = await vm.waitFor(`bootmesh: kernel failed from=${gateway(lost)}`, { signal });
  const next = await vm.waitFor(/bootmesh: kernel from=(\S+)/, { signal });
  assert.ok(!next.text.includes(gateway(lost)), next.text);
  assert.ok(failed.at < next.at);
  await limit('first', FAST_BIT_PER_SECOND);
  await isUp(t, vm, signal);
  await scene.site.start([lost], { signal });
});

test('the neighbour that sends the rootfs is killed at half of it: the boot goes on', options, async (t) => {
  const lost = await loseAtHalf(t, 'second', (lab, name) => lab.stopNode(name, { signal: 'SIGKILL' }));
  await scene.site.start([lost], { signal: AbortSignal.timeout(options.timeout) });
});

test('its cable is pulled instead, and nobody is told: the boot goes on', options, async (t) => {
  await loseAtHalf(t, 'third', (lab, name) => lab.linkDown(name));
});

async function loseAtHalf(
  t: TestContext,
  machine: string,
  strike: (lab: Lab, name: string) => Promise<unknown>,
): Promise<string> {
  const { lab } = scene.site;
  const signal = AbortSignal.timeout(options.timeout);
  await using vm = await lab.startMachine(machine, {}, { signal });
  await vm.waitFor(/bootmesh: ticket ok/, { signal });
  await limit(machine, SLOW_BIT_PER_SECOND);

  const lost = await sendingAtHalf(lab, rootfs().size, signal);
  const lostAt = Date.now();
  const after = await sent(lab);
  await strike(lab, lost);
  await untilSent(lab, { after, bytes: 64 * 1024, butNotBy: lost, signal });
  const wentOnMs = Date.now() - lostAt;
  t.diagnostic(`another neighbour sent ${wentOnMs} ms after ${lost} was lost`);
  assert.ok(wentOnMs < WITHIN_MS, `went on ${wentOnMs} ms after ${lost} was lost`);

  await vm.waitFor(`neighbour lost url=${gateway(lost)} `, { signal });
  await isUp(t, vm, signal);
  assert.ok(await servedTheRestOfAPiece(lab, lost, rootfs().cid), 'what the lost one had sent of a piece was kept');
  return lost;
}

/** The machine came up from the published rootfs in this very boot. */
async function isUp(t: TestContext, vm: VirtualMachine, signal: AbortSignal): Promise<void> {
  const up = await vm.waitFor(MARKER, { signal });
  t.diagnostic(`up ${((up.at - vm.startedAt) / 1000).toFixed(1)} s after power-on`);
  assert.equal(MARKER.exec(up.text)?.[1], rootfs().sha256);
  assert.equal(vm.resets, 0);
  assert.doesNotThrow(() => process.kill(vm.pid, 0), 'the QEMU that was started still runs');
}

const rootfs = () => published.artifacts.find(({ name }) => name === 'rootfs') ?? assert.fail('no rootfs');
const gateway = (name: string) => scene.site.lab.node(name).gateways[0] ?? '';

/** What the machine can receive from now on. */
async function limit(machine: string, bitsPerSecond: number): Promise<void> {
  const { namespace, tap } = scene.site.lab.topology.machines[machine] ?? assert.fail(`no machine ${machine}`);
  await reshape(new Namespace(namespace), tap, bitsPerSecond);
}

/** Bytes of Ethernet frames that each node's cable has carried away from it. */
async function sent(lab: Lab): Promise<Map<string, number>> {
  const counters = Object.values(lab.nodes).map(async ({ name, namespace, interface: own }) => {
    return [name, (await readCounter(new Namespace(namespace), own)).bytes] as const;
  });
  return new Map(await Promise.all(counters));
}

/** Resolves when half of the rootfs has left the nodes, with the one that is in the midst of a piece. */
async function sendingAtHalf(lab: Lab, size: number, signal: AbortSignal): Promise<string> {
  const start = await sent(lab);
  let last = start;
  for (;;) {
    await delay(150, undefined, { signal });
    const now = await sent(lab);
    // 1448 bytes of content travel in a frame of 1514.
    const content = [...now].map(([name, bytes]) => ({
      name,
      bytes: ((bytes - (start.get(name) ?? 0)) * 1448) / 1514,
    }));
    const sending = content.filter(({ name, bytes }) => {
      const ofPiece = (bytes % PIECE) / PIECE;
      return (now.get(name) ?? 0) - (last.get(name) ?? 0) > 100_000 && ofPiece > 0.2 && ofPiece < 0.7;
    });
    const total = content.reduce((sum, { bytes }) => sum + bytes, 0);
    if (total > size / 2 && sending[0] !== undefined) return sending[0].name;
    assert.ok(total < size * 0.9, 'no neighbour was caught in the midst of a piece');
    last = now;
  }
}

/** Resolves when so much has come from one node, with its name; the lost one does not count. */
async function untilSent(
  lab: Lab,
  what: { after: ReadonlyMap<string, number>; bytes: number; butNotBy?: string; signal: AbortSignal },
): Promise<string> {
  for (;;) {
    const now = [...(await sent(lab))].filter(([name]) => name !== what.butNotBy);
    const sender = now.find(([name, bytes]) => bytes - (what.after.get(name) ?? 0) > what.bytes);
    if (sender !== undefined) return sender[0];
    await delay(100, undefined, { signal: what.signal });
  }
}

/** Whether some other node was asked for a range that starts within a piece. */
async function servedTheRestOfAPiece(lab: Lab, lost: string, cid: string): Promise<boolean> {
  const others = Object.values(lab.nodes).filter(({ name }) => name !== lost);
  const logs = await Promise.all(others.map(({ log }) => readFile(log, 'utf8')));
  return logs
    .flatMap((log) => log.split('\n').filter((line) => line.includes('"artifact served"') && line.includes(cid)))
    .some((line) => Number(/"range":"(\d+)-/.exec(line)?.[1] ?? 0) % PIECE !== 0);
}
