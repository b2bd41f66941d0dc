import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { PublishResult } from '../../src/agent/operations.ts';
import type { Lab } from '../../src/lab/lab.ts';
import { Namespace } from '../../src/lab/namespace.ts';
import { readCounter, reshape } from '../../src/lab/shaping.ts';
import { CMDLINE, openSite, PIECE } from './boot-site.ts';
import { missingForGuests } from './guest-lab.ts';
import { MARKER } from './small-rootfs.ts';

const missing = missingForGuests();
const options = { skip: missing === '' ? false : missing, timeout: 120_000 };
/** Slow enough to fail in the middle of a piece: the rootfs takes some eight seconds, a piece one and a half. */
const SLOW_BIT_PER_SECOND = 24e6;
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

test(
  'the serving neighbour is killed at half of the rootfs: the same boot goes on from another',
  options,
  async (t) => {
    await lose(t, 'first', (lab, name) => lab.stopNode(name, { signal: 'SIGKILL' }));
  },
);

test('the serving neighbour’s cable is pulled: the same boot goes on from another', options, async (t) => {
  await lose(t, 'second', (lab, name) => lab.linkDown(name));
});

async function lose(
  t: TestContext,
  machine: string,
  strike: (lab: Lab, name: string) => Promise<unknown>,
): Promise<void> {
  const { lab } = scene.site;
  const signal = AbortSignal.timeout(options.timeout);
  const rootfs = published.artifacts.find(({ name }) => name === 'rootfs') ?? assert.fail('no rootfs');
  await using vm = await lab.startMachine(machine, {}, { signal });
  const { pid } = vm;
  await vm.waitFor(/bootmesh: ticket ok/, { signal });
  const cable = lab.topology.machines[machine] ?? assert.fail('no machine');
  await reshape(new Namespace(cable.namespace), cable.tap, SLOW_BIT_PER_SECOND);

  const lost = await sendingAtHalf(lab, rootfs.size, signal);
  const lostAt = Date.now();
  const before = await sent(lab);
  await strike(lab, lost);
  await untilSent(lab, { after: before, butNotBy: lost, signal });
  const wentOnMs = Date.now() - lostAt;
  t.diagnostic(`another neighbour sent ${wentOnMs} ms after ${lost} was lost`);
  assert.ok(wentOnMs < WITHIN_MS, `went on ${wentOnMs} ms after ${lost} was lost`);

  const url = lab.node(lost).gateways[0] ?? '';
  await vm.waitFor(`neighbour lost url=${url} `, { signal });
  const up = await vm.waitFor(MARKER, { signal });
  t.diagnostic(`up ${((up.at - vm.startedAt) / 1000).toFixed(1)} s after power-on`);
  assert.equal(MARKER.exec(up.text)?.[1], rootfs.sha256);
  assert.equal(vm.pid, pid);
  assert.equal(vm.resets, 0);
  assert.ok(await servedTheRestOfAPiece(lab, lost, rootfs.cid), 'what the lost one had sent of a piece was kept');
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

/** Resolves when content comes from another node than the lost one. */
async function untilSent(
  lab: Lab,
  { after, butNotBy, signal }: { after: ReadonlyMap<string, number>; butNotBy: string; signal: AbortSignal },
): Promise<void> {
  for (;;) {
    const now = await sent(lab);
    if ([...now].some(([name, bytes]) => name !== butNotBy && bytes - (after.get(name) ?? 0) > 64 * 1024)) return;
    await delay(100, undefined, { signal });
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
