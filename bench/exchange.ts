import { type ChildProcess, fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { AGENT_FLAGS } from '../src/launch/agent-process.js';
import type { LaneChoice, Plan, Report } from './exchange/peer.ts';
import { record, signed } from './record/result.ts';

export const summary = 'agent-to-agent download, verified and on disk, against a bare libp2p stream';

const PEER = new URL('./exchange/peer.ts', import.meta.url);
/** One transfer, milliseconds. */
const LIMIT_MS = 180_000;

const LANES: readonly LaneChoice[] = ['stream', 'tls', 'plain'];

/** What one end of a transfer cost. */
interface Side {
  readonly cpu_s_per_gb: number;
  readonly idle_rss_mb: number;
  readonly peak_rss_mb: number;
}

interface Transfer {
  readonly mb_per_s: number;
  /** The one that agents really used. */
  readonly lane: string | undefined;
  readonly send: Side;
  readonly receive: Side;
}

interface Transfers {
  readonly lanes: ReadonlyMap<LaneChoice, Transfer[]>;
  readonly bare: Transfer[];
  readonly tuned: Transfer[];
}

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const { values } = parseArgs({
    args: argv,
    options: {
      json: { type: 'boolean', default: false },
      mib: { type: 'string', default: '1024' },
      rounds: { type: 'string', default: '5' },
      lane: { type: 'string', default: LANES.join(',') },
      bare: { type: 'boolean', default: true },
    },
    allowNegative: true,
  });
  const lanes = values.lane.split(',').map(laneOf);
  const bytes = Number(values.mib) * 1024 * 1024;
  const rounds = Number(values.rounds);
  if (!(bytes > 0) || !(rounds > 0)) throw new RangeError('--mib and --rounds must be positive numbers');
  const directory = await mkdtemp(join(tmpdir(), 'bootmesh-bench-'));
  try {
    const root = await importPayload(join(directory, 'sender'), bytes, signal);
    const done: Transfers = { lanes: new Map(lanes.map((lane) => [lane, []])), bare: [], tuned: [] };
    for (let round = 1; round <= rounds; round += 1) {
      console.log(`round ${round}`);
      const plan = { bytes, root, directory, tuned: true };
      const stock = { ...plan, tuned: false };
      if (values.bare) {
        done.bare.push(await transfer({ ...stock, role: 'bare-send' }, { ...stock, role: 'bare-receive' }, signal));
        console.log(line('bare', done.bare));
        done.tuned.push(await transfer({ ...plan, role: 'bare-send' }, { ...plan, role: 'bare-receive' }, signal));
        console.log(line('bare, tuned', done.tuned));
      }
      for (const [lane, transfers] of done.lanes) {
        const receiver = join(directory, `receiver-${round}`);
        transfers.push(
          await transfer(
            { ...plan, directory: join(directory, 'sender'), role: 'send', lane },
            { ...plan, directory: receiver, role: 'receive', lane },
            signal,
          ),
        );
        await rm(receiver, { recursive: true, force: true });
        console.log(line(lane, transfers));
      }
    }
    await conclude(done, bytes, values.json);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/**
 * The first lane is the one that the figures at the top are of. `ratio` is against libp2p as it comes, in a process as Node comes; `tuned_ratio` against a bare stream that has our
 * heap and transport settings, which makes it about twice as fast.
 */
async function conclude({ lanes, bare, tuned }: Transfers, bytes: number, json: boolean): Promise<void> {
  const [agent = []] = lanes.values();
  const round = (value: number) => Math.round(value * 1000) / 1000;
  const side = (of: Transfer[], end: 'send' | 'receive'): Side => ({
    cpu_s_per_gb: round(median(of.map((one) => one[end].cpu_s_per_gb))),
    idle_rss_mb: round(Math.max(...of.map((one) => one[end].idle_rss_mb))),
    peak_rss_mb: round(Math.max(...of.map((one) => one[end].peak_rss_mb))),
  });
  const sides = { send: side(agent, 'send'), receive: side(agent, 'receive') };
  const grown = agent.flatMap(({ send, receive }) => [send, receive]).map((one) => one.peak_rss_mb - one.idle_rss_mb);
  const ratioTo = (others: Transfer[]) =>
    round(median(agent.map((one, n) => one.mb_per_s / (others[n]?.mb_per_s ?? Number.NaN))));
  const stream = (of: Transfer[]) => ({
    mb_per_s: round(median(of.map(({ mb_per_s }) => mb_per_s))),
    sides: { send: side(of, 'send'), receive: side(of, 'receive') },
  });
  const result = {
    ratio: ratioTo(bare),
    tuned_ratio: ratioTo(tuned),
    mb_per_s: round(median(agent.map(({ mb_per_s }) => mb_per_s))),
    cpu_s_per_gb: { send: sides.send.cpu_s_per_gb, receive: sides.receive.cpu_s_per_gb },
    peak_rss_mb: Math.max(sides.send.peak_rss_mb, sides.receive.peak_rss_mb),
    idle_rss_mb: Math.max(sides.send.idle_rss_mb, sides.receive.idle_rss_mb),
    grown_rss_mb: round(Math.max(...grown)),
    sides,
    lanes: Object.fromEntries([...lanes].map(([lane, of]) => [lane, { used: of[0]?.lane, ...stream(of) }])),
    bare: stream(bare),
    bare_tuned: stream(tuned),
    payload_bytes: bytes,
    rounds: agent.length,
  };
  if (bare.length > 0) await record('exchange', signed(result));
  console.log(
    json
      ? JSON.stringify(result)
      : `ratio ${result.ratio ?? 'not measured'}, ${result.mb_per_s} MB/s, peak ${result.peak_rss_mb} MB`,
  );
  const wrongLane = [...lanes].some(([lane, of]) => lane !== 'auto' && of.some((one) => one.lane !== lane));
  if (wrongLane || (bare.length > 0 && result.ratio < 0.7) || result.peak_rss_mb > 350 || result.grown_rss_mb > 150)
    process.exitCode = 1;
}

async function importPayload(directory: string, bytes: number, signal: AbortSignal): Promise<string> {
  using peer = new Peer({ role: 'import', directory, bytes, tuned: true }, signal);
  return (await peer.next('imported')).root;
}

async function transfer(sending: Plan, receiving: Plan, signal: AbortSignal): Promise<Transfer> {
  using sender = new Peer(sending, signal);
  const { address, idleRssMb: senderIdle } = await sender.next('ready');
  using receiver = new Peer({ ...receiving, address }, signal);
  const { idleRssMb: receiverIdle } = await receiver.next('ready');
  const { seconds, bytes, lane } = await receiver.next('received');
  const sideOf = async (peer: Peer, idle: number): Promise<Side> => {
    peer.finish();
    const { cpuSeconds, peakRssMb } = await peer.next('done');
    return { cpu_s_per_gb: cpuSeconds / (bytes / 1e9), idle_rss_mb: idle, peak_rss_mb: peakRssMb };
  };
  const [send, receive] = await Promise.all([sideOf(sender, senderIdle), sideOf(receiver, receiverIdle)]);
  return { mb_per_s: bytes / 1e6 / seconds, lane, send, receive };
}

/** A child process that reports; killed when it goes out of scope. */
class Peer implements Disposable {
  readonly #child: ChildProcess;
  readonly #reports: Report[] = [];
  readonly #failed = Promise.withResolvers<never>();
  #wake: (() => void) | undefined;
  #finished = false;

  constructor(plan: Plan, signal: AbortSignal) {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
    this.#child = fork(PEER, [JSON.stringify(plan)], {
      execArgv: plan.tuned ? AGENT_FLAGS : [],
      signal: limit,
      killSignal: 'SIGKILL',
    });
    this.#failed.promise.catch(() => undefined);
    this.#child.on('error', (error) => this.#failed.reject(error));
    this.#child.on('exit', (code, how) => this.#failed.reject(new Error(`${plan.role} ended early (${how ?? code})`)));
    this.#child.on('message', (report: Report) => {
      this.#reports.push(report);
      this.#wake?.();
    });
  }

  async next<S extends Report['said']>(said: S): Promise<Extract<Report, { said: S }>> {
    for (;;) {
      const report = this.#reports.shift();
      if (report?.said === said) return report as Extract<Report, { said: S }>;
      if (report) throw new Error(`expected ${said}, got ${report.said}`);
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      await Promise.race([woken, this.#failed.promise]);
    }
  }

  finish(): void {
    this.#finished = true;
    this.#child.send('finish');
  }

  [Symbol.dispose](): void {
    if (!this.#finished) this.#child.kill('SIGKILL');
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

function line(name: string, transfers: readonly Transfer[]): string {
  const transfer = transfers.at(-1);
  if (!transfer) return '';
  const { mb_per_s, send, receive } = transfer;
  const ends = Object.entries({ send, receive }).map(
    ([end, side]) =>
      `${end} ${side.cpu_s_per_gb.toFixed(2)} CPU s/GB, ${side.idle_rss_mb.toFixed(0)} → ${side.peak_rss_mb.toFixed(0)} MB`,
  );
  const used = transfer.lane === undefined || transfer.lane === name ? '' : ` (${transfer.lane})`;
  return `  ${`${name}${used}`.padEnd(14)} ${mb_per_s.toFixed(0)} MB/s | ${ends.join(' | ')}`;
}

function laneOf(name: string): LaneChoice {
  const lane = [...LANES, 'auto' as const].find((one) => one === name);
  if (lane === undefined) throw new RangeError(`--lane ${name}: known are ${LANES.join(', ')} and auto`);
  return lane;
}
