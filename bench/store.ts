import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { formatSize, parseSize } from '../src/fleet/quantity.ts';
import { AGENT_FLAGS } from '../src/launch/agent-process.js';
import { record, signed } from './record/result.ts';
import { writeSection } from './record/section.ts';
import { markdownTable } from './record/table.ts';
import { makePayload } from './site/payload.ts';
import type { Plan, Report } from './store/phases.ts';

export const summary =
  'import, random reads, gc and recovery of the pack store, beside sha256, the disk and a plain file';

const execute = promisify(execFile);
const PHASES = new URL('./store/phases.ts', import.meta.url);
/** One phase, milliseconds. */
const LIMIT_MS = 120_000;

/** What must hold. */
const LEAST_IMPORT = 0.6;
const LEAST_READ = 0.5;
const MOST_RECOVERY_SECONDS = 30;
const RECORDED_ROUNDS = 3;
const RECOVERED_CHUNKS = 50_000;
/** Chunks of 64 KiB in the store that GC halves. */
const GC_CHUNKS = 8192;

type Phase = Plan['phase'];
/** Ways to read the same chunks: from a plain file, for a peer, and hashed. */
const READS = ['plain', 'encoded', 'get'] as const;

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const { values } = parseArgs({
    args: argv,
    options: {
      json: { type: 'boolean', default: false },
      payload: { type: 'string', default: '1GiB' },
      rounds: { type: 'string', default: String(RECORDED_ROUNDS) },
      chunks: { type: 'string', default: String(RECOVERED_CHUNKS) },
      directory: { type: 'string', default: tmpdir() },
    },
  });
  const [rounds, chunks] = [Number(values.rounds), Number(values.chunks)];
  if (!(rounds >= 1) || !(chunks >= 1)) throw new RangeError('--rounds and --chunks must be positive numbers');
  const size = parseSize(values.payload);
  if (!size) throw new RangeError(`--payload ${values.payload} is no size, like 1GiB`);
  const directory = await mkdtemp(join(values.directory, 'bm-bench-store-'));
  try {
    const payload = await makePayload(join(directory, 'payload'), size, 1);
    const store = join(directory, 'store');
    const measured = new Map<string, Report[]>();
    const base = { payload: payload.path, bytes: payload.bytes, store, chunks };
    const measure = async (phase: Phase, plan: Partial<Plan> = {}, name: string = phase): Promise<Report> => {
      const report = await inProcess({ ...base, phase, ...plan }, signal);
      measured.set(name, [...(measured.get(name) ?? []), report]);
      console.log(`${name.padEnd(20)}${line(report)}`);
      return report;
    };
    // The first to use a virtual machine's memory pays its host for it; that is nobody's own speed.
    await inProcess({ ...base, phase: 'write' }, signal);
    for (let round = 0; round < rounds; round++) {
      await measure('hash');
      await measure('write');
      const { root } = await measure('import');
      // Each goes first in turn.
      const ways = round % 2 ? READS.toReversed() : READS;
      for (const phase of ways) {
        await forget([payload.path, ...(await segmentsOf(store))], signal);
        await measure(phase, { root }, `${phase}, disk`);
        await measure(phase, { root }, `${phase}, memory`);
      }
      await rm(store, { recursive: true });
    }
    for (let round = 0; round < rounds; round++) {
      await measure('fill', { chunks: GC_CHUNKS });
      await measure('gc', { chunks: GC_CHUNKS });
      await rm(store, { recursive: true });
    }
    await inProcess({ ...base, phase: 'fill' }, signal);
    for (let round = 0; round < rounds; round++) {
      await forget(await segmentsOf(store), signal);
      await measure('recover');
    }
    await conclude(measured, { bytes: payload.bytes, chunks, rounds, json: values.json });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Runs a phase as an agent's process is run. */
async function inProcess(plan: Plan, signal: AbortSignal): Promise<Report> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
  const child = fork(PHASES, [JSON.stringify(plan)], { execArgv: AGENT_FLAGS, signal: limit, killSignal: 'SIGKILL' });
  const ended = once(child, 'exit');
  const [report] = (await Promise.race([
    once(child, 'message'),
    ended.then(([code, how]) => Promise.reject(new Error(`${plan.phase} ended early (${how ?? code})`))),
  ])) as [Report];
  child.disconnect();
  await ended;
  return report;
}

async function segmentsOf(store: string): Promise<string[]> {
  const directory = join(store, 'segments');
  return (await readdir(directory)).map((name) => join(directory, name));
}

/** Has the files read from the disk next time, and not from memory. They must be synced. */
async function forget(paths: readonly string[], signal: AbortSignal): Promise<void> {
  for (const path of paths) {
    await execute('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none'], { signal });
  }
}

function line({ seconds, bytes, cpu }: Report): string {
  const speed = `${(bytes / 1e6 / seconds).toFixed(0)} MB/s`;
  return `${speed.padStart(10)}${seconds.toFixed(2).padStart(8)} s${(cpu / (bytes / 1e9)).toFixed(2).padStart(8)} CPU s/GB`;
}

interface Figures {
  readonly mb_per_s: number;
  readonly seconds: number;
  readonly cpu_s_per_gb: number;
}

async function conclude(
  measured: ReadonlyMap<string, readonly Report[]>,
  { bytes, chunks, rounds, json }: { bytes: number; chunks: number; rounds: number; json: boolean },
): Promise<void> {
  const of = (name: string): Figures => {
    const reports = measured.get(name) ?? [];
    return {
      mb_per_s: rounded(median(reports.map((one) => one.bytes / 1e6 / one.seconds))),
      seconds: rounded(median(reports.map(({ seconds }) => seconds))),
      cpu_s_per_gb: rounded(median(reports.map((one) => one.cpu / (one.bytes / 1e9)))),
    };
  };
  const bound = Math.min(of('hash').mb_per_s, of('write').mb_per_s);
  const readBy = (phase: 'encoded' | 'get', where: string) => {
    const figures = of(`${phase}, ${where}`);
    return { ...figures, ratio: rounded(figures.mb_per_s / of(`plain, ${where}`).mb_per_s) };
  };
  const peers = {
    'sha256, one core': of('hash'),
    'disk write and fsync': of('write'),
    'plain file, random reads, disk': of('plain, disk'),
    'plain file, random reads, memory': of('plain, memory'),
  };
  const ours = {
    import: { ...of('import'), ratio: rounded(of('import').mb_per_s / bound) },
    'random reads for a peer, disk': readBy('encoded', 'disk'),
    'random reads for a peer, memory': readBy('encoded', 'memory'),
    'random reads, hashed, disk': readBy('get', 'disk'),
    'random reads, hashed, memory': readBy('get', 'memory'),
    put: of('fill'),
    gc: of('gc'),
    recovery: of('recover'),
  };
  const wrong = [
    ...below('import', ours.import.ratio, LEAST_IMPORT),
    ...below('random reads for a peer, from the disk,', ours['random reads for a peer, disk'].ratio, LEAST_READ),
    ...(ours.recovery.seconds < MOST_RECOVERY_SECONDS ? [] : [`recovery took ${ours.recovery.seconds} s`]),
  ];
  const result = signed({
    ours,
    peers,
    payload_bytes: bytes,
    recovered_chunks: chunks,
    rounds,
    ok: wrong.length === 0,
  });
  const rows = Object.entries({ ...ours, ...peers }).map(([name, figures]) => [
    name,
    figures.mb_per_s.toFixed(0),
    figures.seconds.toFixed(2),
    figures.cpu_s_per_gb.toFixed(2),
    'ratio' in figures ? figures.ratio.toFixed(2) : '',
  ]);
  const table = markdownTable(['', 'MB/s', 's', 'CPU s per GB', 'ratio'], rows);
  const isWhole = rounds >= RECORDED_ROUNDS && chunks >= RECOVERED_CHUNKS;
  if (isWhole) {
    await record('store', result);
    await writeSection(
      'store',
      `${formatSize(bytes)} payload, ${chunks} chunks, medians of ${rounds}, ${result.when.slice(0, 10)}:\n\n${table}`,
    );
  }
  console.log(table);
  for (const each of wrong) console.error(each);
  if (json) console.log(JSON.stringify(result));
  if (wrong.length > 0) process.exitCode = 1;
}

function below(what: string, ratio: number, least: number): string[] {
  return ratio >= least ? [] : [`ours: ${what} is ${ratio} of its bound, and must be ${least}`];
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
