import { readDescription } from '../fleet/description.ts';
import { DEMO_MARKER, DEMO_PROMPT } from '../image/demo-rootfs.ts';
import type { VirtualMachine } from '../machine/virtual-machine.ts';
import type { Screen } from './screen.ts';
import { Site } from './site.ts';
import { logPositions, type Moment, readTimeline, servers } from './timeline.ts';

/** The last line of `npm run demo -- --json`. */
export interface DemoResult {
  readonly ok: boolean;
  readonly origin_alive: boolean;
  /** Nodes that gave the machine bytes of its kernel, initramfs or rootfs. */
  readonly booted_from: readonly string[];
  /** Over the edge site's uplink towards it while its nodes fetched: class counter of tc, headers included. */
  readonly uplink_bytes: number;
  /** Distinct chunks of the release as they travel, once. */
  readonly payload_bytes: number;
  /** What the machine computed from the device that its root is mounted from. */
  readonly rootfs_sha256: string;
  /** Power-on to the marker, seconds. */
  readonly boot_s: number;
}

interface DemoOptions {
  /** File of the fleet's description. */
  readonly description: string;
  readonly directory: string;
  readonly cache: string;
  readonly screen: Screen;
}

const CMDLINE = 'console=ttyS0 quiet';
const BOOT_MS = 180_000;
/** ProxyDHCP or DHCP server: mode auto listens for other servers before it decides. */
const BOOT_READY_MS = 15_000;

/** Publishes at the origin, lets the edge fetch, kills origin and a neighbour, and boots a bare machine from the rest. */
export async function runDemo(options: DemoOptions, { signal }: { readonly signal: AbortSignal }): Promise<DemoResult> {
  const { screen } = options;
  screen.title('every machine that has booted can boot the next one');
  const description = await readDescription(options.description);
  // Where the files are is of no interest here.
  const onProgress = (text: string) => screen.step('set-up', text.replace(/ (written to|from) \/\S+/g, ''));
  await using site = await Site.open({ ...options, description, onProgress }, { signal });
  const { lab } = site;
  const edge = Object.keys(lab.nodes).filter((name) => name !== site.publisher);
  const machine = Object.keys(lab.description.machines)[0] ?? '';
  screen.step('lab', `${site.publisher} ──20 Mbit/s── ${edge.join(' ')} ── ${machine} (no disk)`);

  const published = await site.publish(CMDLINE, { signal });
  const rootfs = published.artifacts.find(({ name }) => name === 'rootfs');
  const sizes = published.artifacts.map(({ name, size }) => `${name} ${megabytes(size)}`);
  screen.step('publish', `${published.channel} ${published.version} at ${site.publisher}: ${sizes.join(', ')}`);

  const uplink = async () => (await lab.uplink(lab.node(edge[0] ?? '').site)).toSite.bytes;
  const before = await uplink();
  await fetchTogether(site, edge, published.payloadBytes, screen, signal);
  const uplinkBytes = (await uplink()) - before;
  const ratio = (uplinkBytes / published.payloadBytes).toFixed(3);
  screen.step(
    'uplink',
    `${megabytes(uplinkBytes)} crossed it for a payload of ${megabytes(published.payloadBytes)} (${ratio} ×), ${edge.length} nodes hold it`,
  );

  const [lost = '', ...left] = edge;
  await lab.stopNode(site.publisher);
  await lab.stopNode(lost);
  screen.step('stop', `${site.publisher} and ${lost} are off; left are ${left.join(' and ')}`);
  await site.untilBooting(left, { signal: AbortSignal.any([signal, AbortSignal.timeout(BOOT_READY_MS)]) });

  const roles = new Map(published.artifacts.map(({ name, cid }) => [cid, name]));
  const boot = await bootBare(site, machine, roles, screen, signal);
  const originAlive = lab.pid(site.publisher) !== undefined;
  const from = servers(boot.moments);
  return {
    ok: !originAlive && boot.sha256 === rootfs?.sha256 && from.length > 0 && !from.includes(site.publisher),
    origin_alive: originAlive,
    booted_from: from,
    uplink_bytes: uplinkBytes,
    payload_bytes: published.payloadBytes,
    rootfs_sha256: boot.sha256,
    boot_s: boot.seconds,
  };
}

async function fetchTogether(
  site: Site,
  edge: readonly string[],
  payload: number,
  screen: Screen,
  signal: AbortSignal,
) {
  const started = performance.now();
  await site.start(edge, { signal });
  const bar = screen.progress('fetch', payload * edge.length);
  await site.untilHeld(edge, {
    signal,
    onShares: (shares) => bar.update(shares.reduce((sum, share) => sum + share, 0) * payload),
  });
  bar.finish();
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  screen.step('fetch', `${edge.join(', ')} started together and hold the release after ${seconds} s`);
}

interface Boot {
  readonly sha256: string;
  readonly seconds: number;
  readonly moments: readonly Moment[];
}

async function bootBare(
  site: Site,
  name: string,
  roles: ReadonlyMap<string, string>,
  screen: Screen,
  signal: AbortSignal,
): Promise<Boot> {
  const { lab } = site;
  const since = await logPositions(lab);
  const machine = await lab.startMachine(name, { onLine: ({ text }) => screen.console(text) }, { signal });
  screen.step('power on', `${name}: QEMU without a disk, network boot ROM`);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(BOOT_MS)]);
  const { at, sha256 } = await untilUp(machine, limit);
  await machine.waitFor(DEMO_PROMPT, { signal: limit, unfinished: true });
  const mac = lab.topology.machines[name]?.mac ?? '';
  const moments = await readTimeline(lab, machine.serial, { since, mac, roles });
  for (const moment of moments) {
    const seconds = ((moment.at - machine.startedAt) / 1000).toFixed(1).padStart(6);
    screen.moment(`${seconds} s`, moment.stage, moment.by ?? name, moment.detail);
  }
  return { sha256, seconds: Math.round((at - machine.startedAt) / 100) / 10, moments };
}

async function untilUp(machine: VirtualMachine, signal: AbortSignal): Promise<{ at: number; sha256: string }> {
  const line = await machine.waitFor(DEMO_MARKER, { signal });
  return { at: line.at, sha256: DEMO_MARKER.exec(line.text)?.[1] ?? '' };
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
