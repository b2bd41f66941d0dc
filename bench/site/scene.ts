import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { parseDescription } from '../../src/fleet/description.ts';
import { formatRate } from '../../src/fleet/quantity.ts';
import { type Lab, labUp } from '../../src/lab/lab.ts';
import { Namespace } from '../../src/lab/namespace.ts';
import { UNLIMITED } from '../../src/lab/shaping.ts';
import { AGENT_FLAGS } from '../../src/launch/agent-process.js';
import { allowCongestionControl } from './congestion-control.ts';
import { removeLeftovers, SCENE_PREFIX } from './leftovers.ts';

/** Bits per second, seen from the site. */
interface Uplink {
  readonly up: number;
  readonly down: number;
}

export interface ScenePlan {
  /** Sites of receivers, each one segment. Nodes are numbered through: n1, n2, … */
  readonly sites: readonly { readonly name: string; readonly nodes: number; readonly uplink?: Uplink }[];
  /** Bits per second of the origin's link, each way. @default unlimited, and counted */
  readonly originRate?: number;
  /** Bits per second of each node's link, each way. @default unshaped */
  readonly nodeRate?: number;
  /** Name of the site on whose segment the origin is. @default none: a site of its own, `origin`, behind a router */
  readonly originSite?: string;
  /** Where the scene keeps its files, in a directory of its own. @default the system's for temporary files */
  readonly directory?: string;
  /** Our agents write CPU profiles into this directory when they end. @default none */
  readonly profile?: string;
}

/** A machine of the scene, as a contender's program sees it. */
export interface Place {
  readonly name: string;
  /** Name of its network namespace, for `ip netns exec`. */
  readonly namespace: string;
  /** Its one IPv4 address, on `eth0`. */
  readonly address: string;
  readonly site: string;
  /** Its own, on disk; cleared between races. */
  readonly directory: string;
}

/** Wire bytes (whole Ethernet frames) by tc class counters since the scene was opened. */
export interface SceneCounters {
  readonly originUp: number;
  readonly originDown: number;
  readonly uplinks: Readonly<Record<string, { readonly down: number; readonly up: number }>>;
}

/** Namespaces with shaped links in which the contenders run by turns. Disposing removes everything. */
export interface Scene extends AsyncDisposable {
  readonly origin: Place;
  readonly nodes: readonly Place[];
  /** Our own agents' part: one lab node per place, of the same name; none is running unless a contender starts it. */
  readonly lab: Lab;
  readonly directory: string;
  /** Our agents are being profiled: they have to end by themselves. */
  readonly profiled: boolean;
  counters(): Promise<SceneCounters>;
  /** Pulls the origin's cable out. */
  cutOrigin(): Promise<void>;
  /** As it was opened: the places' directories are empty, and the origin's cable is plugged in. */
  clear(): Promise<void>;
}

const ORIGIN = 'origin';
/**
 * Linux's and Debian's own, whatever this host prefers. BBR in particular takes the round trip of an idle link between
 * namespaces, 13 µs, for the path's, and then starves a flow whose link others fill.
 */
const CONGESTION_CONTROL = 'cubic';
const LAUNCHER = fileURLToPath(new URL('../../src/launch/launch.js', import.meta.url));

/** Lays all links and starts nothing. When it rejects, what was made is gone; so is what a killed bench has left. */
export async function openScene(plan: ScenePlan, { signal }: { readonly signal: AbortSignal }): Promise<Scene> {
  await using stack = new AsyncDisposableStack();
  const above = plan.directory ?? tmpdir();
  await removeLeftovers(above);
  const directory = await mkdtemp(join(above, SCENE_PREFIX));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  const lab = stack.use(
    await labUp(
      parseDescription(descriptionOf(plan), 'the scene'),
      { agentCommand: agentCommand(plan), directory: join(directory, 'lab'), start: [] },
      { signal },
    ),
  );
  const places = Object.values(lab.nodes).map(({ name, namespace, site, addresses }) => {
    return { name, namespace, site, address: addresses.ipv4 ?? '', directory: join(directory, 'places', name) };
  });
  stack.use(await allowCongestionControl(CONGESTION_CONTROL));
  for (const { namespace } of places)
    await new Namespace(namespace).sysctl(`net.ipv4.tcp_congestion_control=${CONGESTION_CONTROL}`);
  const origin = places.find(({ name }) => name === ORIGIN);
  if (origin === undefined) throw new TypeError('the description has the origin');
  const clear = async () => {
    await lab.linkUp(ORIGIN);
    for (const place of places) {
      await rm(place.directory, { recursive: true, force: true });
      await mkdir(place.directory, { recursive: true });
    }
  };
  await clear();
  const all = stack.move();
  return {
    origin,
    nodes: places.filter((place) => place !== origin),
    lab,
    directory,
    profiled: plan.profile !== undefined,
    counters: () => countersOf(plan, lab),
    cutOrigin: () => lab.linkDown(ORIGIN),
    clear,
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** As a user starts it; a profile must be asked for after the launcher, which replaces its own process. */
function agentCommand({ profile }: ScenePlan): string[] {
  if (profile === undefined) return [process.execPath, LAUNCHER, 'up'];
  return [process.execPath, ...AGENT_FLAGS, '--cpu-prof', '--cpu-prof-dir', resolve(profile), LAUNCHER, 'up'];
}

/** IPv4 alone: no contender gains by having two addresses for a peer. */
function descriptionOf({ sites, originRate = UNLIMITED, nodeRate, originSite }: ScenePlan): string {
  const rates = ({ up, down }: Uplink) => ({ up: formatRate(up), down: formatRate(down) });
  const link = rates({ up: originRate, down: originRate });
  const own = originSite === undefined;
  const names = sites.map(({ name }) => name);
  const receivers = sites.flatMap(({ name, nodes }) => Array.from({ length: nodes }, () => name));
  return stringify({
    fleet: 'bench',
    sites: {
      ...Object.fromEntries(
        sites.map(({ name, uplink }) => [
          name,
          { ...(nodeRate !== undefined && { lan: formatRate(nodeRate) }), ...(uplink && { uplink: rates(uplink) }) },
        ]),
      ),
      ...(own && { [ORIGIN]: { uplink: link } }),
    },
    segments: Object.fromEntries(
      [...names, ...(own ? [ORIGIN] : [])].map((site) => [site, { site, families: ['ipv4'] }]),
    ),
    nodes: {
      [ORIGIN]: { site: originSite ?? ORIGIN, roles: ['origin'], ...(!own && { link }) },
      ...Object.fromEntries(receivers.map((site, index) => [`n${index + 1}`, { site }])),
    },
  });
}

async function countersOf({ sites, originSite }: ScenePlan, lab: Lab): Promise<SceneCounters> {
  const [origin, ...uplinks] = await Promise.all([
    originCounters(originSite, lab),
    ...sites.map(({ name }) => lab.uplink(name)),
  ]);
  return {
    originUp: origin.up,
    originDown: origin.down,
    uplinks: Object.fromEntries(
      uplinks.map(({ toSite, fromSite }, at) => [sites[at]?.name, { down: toSite.bytes, up: fromSite.bytes }]),
    ),
  };
}

async function originCounters(originSite: string | undefined, lab: Lab): Promise<{ up: number; down: number }> {
  if (originSite === undefined) {
    const { fromSite, toSite } = await lab.uplink(ORIGIN);
    return { up: fromSite.bytes, down: toSite.bytes };
  }
  const { fromNode, toNode } = await lab.traffic(ORIGIN);
  return { up: fromNode.bytes, down: toNode.bytes };
}
