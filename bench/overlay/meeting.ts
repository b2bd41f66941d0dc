import type { PingLine } from '../../src/admin/results.ts';
import { Namespace } from '../../src/lab/namespace.ts';
import { differenceOf, entitled, listed, type Person } from './entitled.ts';
import { GATEWAY, type Nat, type OverlayFleet, until } from './fleet.ts';

export interface Meeting {
  readonly nat: Nat;
  readonly nodes: number;
  /** From the last agent's start until everybody was connected to everybody, by the way that the NATs allow. */
  readonly meshed_ms: number;
  /** Pairs, each asked from both ends. */
  readonly pairs: number;
  /** Chunks that came, two for each pair. */
  readonly chunks: number;
  /** How many of them came which way. */
  readonly paths: Readonly<Record<string, number>>;
  /** Median of the time from the question to the verified chunk, by way. */
  readonly median_ms: Readonly<Record<string, number>>;
  /** Interfaces whose `wg show` was compared, and what was wrong of any. */
  readonly interfaces: number;
  readonly wrong: readonly string[];
}

/** Handshakes in vain are given up after 25 s; then the interfaces have what stays. */
const SETTLED_MS = 60_000;
const PING_MS = 120_000;

/** Everybody asks everybody for a chunk, and every interface is compared with what it is entitled to. */
export async function meet(
  fleet: OverlayFleet,
  nat: Nat,
  { signal, say }: { readonly signal: AbortSignal; readonly say: (line: string) => void },
): Promise<Meeting> {
  const names = [...fleet.running];
  const across = nat === 'kept' ? 'overlay' : 'gateway';
  const meshed = await until(() => unmet(fleet, names, across, signal), { signal, ms: 240_000 });
  say(`${nat}: all ${names.length} nodes have met after ${(meshed / 1000).toFixed(1)} s`);
  const lines = new Map<string, readonly PingLine[]>();
  for (const name of names) {
    const pings = (await fleet.lab.bootmesh<{ pings: PingLine[] }>(name, ['ping'], { signal, timeoutMs: PING_MS }))
      .pings;
    lines.set(name, pings);
    say(`${nat}: ${name.padEnd(10)} ${summaryOf(pings)}`);
  }
  const all = [...lines.values()].flat();
  const chunks = all.filter(({ outcome }) => outcome === 'chunk');
  const byPath = Map.groupBy(chunks, wayOf);
  const wrong = await interfaces(fleet, names, across, signal);
  return {
    ...{ nat, nodes: names.length, meshed_ms: meshed },
    ...{ pairs: (names.length * (names.length - 1)) / 2, chunks: chunks.length },
    paths: Object.fromEntries([...byPath].map(([path, each]) => [path, each.length])),
    median_ms: Object.fromEntries([...byPath].map(([path, each]) => [path, median(each.map(({ ms = 0 }) => ms))])),
    ...{ interfaces: names.length, wrong },
  };
}

/** Why the meeting cannot begin yet. */
async function unmet(
  fleet: OverlayFleet,
  names: readonly string[],
  across: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  for (const name of names) {
    const admin = await fleet.admin(name);
    const { channels } = await admin.status({}, { signal });
    if (channels.some(({ held = 0 }) => held < 1)) return `${name} does not have the release`;
    const { peers } = await admin.peers({}, { signal });
    const connected = peers.filter((peer) => peer.connected);
    if (connected.length < names.length - 1) return `${name} has met ${connected.length} of ${names.length - 1}`;
    const own = fleet.lab.node(name);
    const wrong = connected.find(({ name: other = '', site, path }) => {
      const direct = name === GATEWAY || other === GATEWAY ? 'overlay' : across;
      return path !== (site === own.site ? 'lan' : direct);
    });
    if (wrong) return `${name} reaches ${wrong.name} by ${wrong.path ?? 'no way'}`;
  }
  return undefined;
}

async function interfaces(fleet: OverlayFleet, names: readonly string[], across: string, signal: AbortSignal) {
  const [any = ''] = names;
  const { members } = await (await fleet.admin(any)).members({}, { signal });
  const people: Person[] = members.filter(({ state }) => state === 'member');
  const wrong: string[] = [];
  for (const own of people) {
    // Everybody is connected to everybody: with direct ways, all of other sites are in use.
    const far = people.filter(({ site }) => site !== own.site).map(({ name }) => name);
    const wanted = entitled(own, people, new Set(across === 'overlay' ? far : []));
    const { namespace, overlay } = fleet.lab.node(own.name);
    const look = async () => {
      const { stdout } = await new Namespace(namespace).run(['wg', 'show', overlay?.interface ?? '', 'dump']);
      return differenceOf(wanted, listed(stdout));
    };
    await until(look, { signal, ms: SETTLED_MS }).catch(async () => wrong.push(`${own.name}: ${await look()}`));
  }
  return wrong;
}

function wayOf({ path, via }: PingLine): string {
  return via === undefined ? (path ?? 'no way') : `through ${via}`;
}

/** `7 lan, 8 overlay (median 3.1 ms), …` */
function summaryOf(pings: readonly PingLine[]): string {
  const missed = pings.filter(({ outcome }) => outcome !== 'chunk');
  const ways = [...Map.groupBy(pings, wayOf)].map(([way, each]) => {
    const times = each.map(({ ms = 0 }) => ms);
    return `${each.length} by ${way} in ${median(times)} ms`;
  });
  const faults = missed.map(({ name, outcome, why = '' }) => `${name} ${outcome} ${why}`.trim());
  return [...ways, ...faults].join(', ');
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
