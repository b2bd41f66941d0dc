import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadWireguardKey } from '../src/fleet/wireguard-key.ts';
import { connect, createNamespace, type Namespace } from '../src/lab/namespace.ts';
import type { RosterReport } from './members/roster.ts';
import type { TunnelPlan, TunnelReport } from './members/tunnel.ts';
import { record, signed } from './record/result.ts';
import { writeSection } from './record/section.ts';

export const summary = 'a start with thousands of certificates, and one change among hundreds of WireGuard peers';
export const help = [
  '  --certificates N   members of the fleet (default 5000)',
  '  --peers N          further peers on the interface (default 250)',
  '  --rounds N         starts, and times that a peer is removed and added (default 5, of 20 changes each)',
  '  --driver WHICH     auto, kernel or userspace (default auto)',
];

const ROSTER = fileURLToPath(new URL('./members/roster.ts', import.meta.url));
const TUNNEL = fileURLToPath(new URL('./members/tunnel.ts', import.meta.url));
const LIMIT_MS = 120_000;
const CHANGES = 20;
/** Smaller trials are not kept. */
const RECORDED = { certificates: 5_000, peers: 250 };
/** What a start, its memory and one change may cost. */
const MOST = { start_ms: 5_000, rss_growth_mb: 40, change_ms: 100 };

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const { values } = parseArgs({
    args: argv,
    options: {
      json: { type: 'boolean', default: false },
      certificates: { type: 'string', default: '5000' },
      peers: { type: 'string', default: '250' },
      rounds: { type: 'string', default: '5' },
      driver: { type: 'string', default: 'auto' },
    },
  });
  const [certificates, peers, rounds] = [values.certificates, values.peers, values.rounds].map(Number);
  if (!certificates || !peers || !rounds)
    throw new RangeError('--certificates, --peers and --rounds are numbers above 0');
  const directory = await mkdtemp(join(tmpdir(), 'bm-bench-members-'));
  try {
    const roster = await starts(directory, certificates, rounds, signal);
    const tunnel = await changes(directory, { peers, rounds, driver: values.driver as TunnelPlan['driver'] }, signal);
    const start = {
      certificates,
      ms: median(roster.map(({ milliseconds }) => milliseconds)),
      cpu_s: median(roster.map(({ cpu_s }) => cpu_s)),
      rss_growth_mb: median(roster.map(({ rss_growth_mb }) => rss_growth_mb)),
    };
    const change = {
      ...{ driver: tunnel.driver, peers: tunnel.peers, set_all_ms: tunnel.set_all_ms },
      ...{ add_ms: median(tunnel.add_ms), add_most_ms: Math.max(...tunnel.add_ms) },
      ...{ remove_ms: median(tunnel.remove_ms), remove_most_ms: Math.max(...tunnel.remove_ms) },
      ...{ sent: tunnel.sent, returned: tunnel.returned, same_session: tunnel.same_session },
    };
    const worst = Math.max(change.add_most_ms, change.remove_most_ms);
    const ok =
      start.ms <= MOST.start_ms &&
      start.rss_growth_mb <= MOST.rss_growth_mb &&
      worst <= MOST.change_ms &&
      change.same_session &&
      change.returned === change.sent;
    const result = signed({ bench: 'members', ok, rounds, start, change });
    const lines = [
      `A start with ${certificates} certificates, each verified: ${start.ms} ms, ${start.cpu_s.toFixed(2)} CPU s, RSS grows by ${start.rss_growth_mb} MB (medians of ${rounds}).`,
      `One of ${change.peers} peers of one interface (${change.driver}): added in ${change.add_ms} ms (at most ${change.add_most_ms}), removed in ${change.remove_ms} ms (at most ${change.remove_most_ms}), ${tunnel.add_ms.length} times each; meanwhile ${change.returned} of ${change.sent} datagrams came back through another peer's tunnel, ${change.same_session ? 'by the session of before' : 'by a NEW session'}. All peers at once: ${change.set_all_ms} ms.`,
    ];
    for (const line of lines) console.log(line);
    if (certificates >= RECORDED.certificates && peers >= RECORDED.peers) {
      await record('members', result);
      const { cpu, cores, kernel, node } = result.machine;
      const where = `${result.when.slice(0, 10)}: ${cpu}, ${cores} cores, Linux ${kernel}, Node ${node}.`;
      await writeSection('members', [...lines, where].join('\n\n'));
    }
    if (values.json) console.log(JSON.stringify(result));
    if (!ok) process.exitCode = 1;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function starts(directory: string, certificates: number, rounds: number, signal: AbortSignal) {
  const file = join(directory, 'members');
  const node = (...args: string[]) => [process.execPath, '--expose-gc', ROSTER, ...args];
  await lastLine(node('make', file, String(certificates)), signal);
  const reports: RosterReport[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    const report = await lastLine<RosterReport>(node('read', file), signal);
    console.error(`start ${round}: ${report.milliseconds} ms, RSS +${report.rss_growth_mb} MB`);
    reports.push(report);
  }
  return reports;
}

interface Size {
  readonly peers: number;
  readonly rounds: number;
  readonly driver: TunnelPlan['driver'];
}

async function changes(directory: string, { peers, rounds, driver }: Size, signal: AbortSignal): Promise<TunnelReport> {
  await using stack = new AsyncDisposableStack();
  const names = [`bm-bm${process.pid}-near`, `bm-bm${process.pid}-far`] as const;
  const [near, far] = await Promise.all(names.map((name) => createNamespace(name)));
  if (near === undefined || far === undefined) throw new Error('no namespaces');
  stack.use(near);
  stack.use(far);
  const end = (namespace: Namespace, address: string) => ({ namespace, interface: 'eth0', addresses: [address] });
  await connect(end(near, '10.77.8.1/24'), end(far, '10.77.8.2/24'));
  const ends = await Promise.all(
    ['near', 'far'].map(async (role, n) => {
      const key = await loadWireguardKey(join(directory, role));
      return {
        key,
        address: `fd00::${n + 1}`,
        endpoint: `10.77.8.${n + 1}:51820`,
        name: `bm${process.pid % 100_000}${role[0]}`,
      };
    }),
  );
  const planOf = (role: 'near' | 'far', own: number): TunnelPlan => {
    const [mine, other] = [ends[own], ends[1 - own]];
    if (mine === undefined || other === undefined) throw new Error('no ends');
    const { publicKey } = other.key;
    return {
      ...{ role, driver, peers, rounds: rounds * CHANGES },
      ...{ name: mine.name, keyFile: mine.key.file, ownKey: mine.key.publicKey, address: mine.address },
      other: { publicKey, address: other.address, endpoint: other.endpoint },
    };
  };
  const echo = far.spawn([process.execPath, TUNNEL, JSON.stringify(planOf('far', 1))], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  stack.defer(async () => {
    echo.kill('SIGTERM');
    if (echo.exitCode === null) await once(echo, 'exit');
  });
  if (echo.stdout === null) throw new Error('no output');
  await once(echo.stdout, 'data', { signal: AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]) });
  const argv = ['ip', 'netns', 'exec', near.name, process.execPath, TUNNEL, JSON.stringify(planOf('near', 0))];
  return await lastLine<TunnelReport>(argv, signal);
}

/** The last line of what a program prints, as JSON. */
async function lastLine<T>([program = '', ...args]: string[], signal: AbortSignal): Promise<T> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], signal: limit });
  const [said, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  if (code !== 0) throw new Error(`${args.join(' ').slice(0, 100)}… ended with ${code}`);
  return JSON.parse(said.trim().split('\n').at(-1) ?? '') as T;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
