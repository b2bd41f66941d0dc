import { randomBytes } from 'node:crypto';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { parseRate, parseSize } from '../src/fleet/quantity.ts';
import type { KnockReport, Target } from './knock/generator.ts';
import { Outside } from './knock/outside.ts';
import { HOST, Pair, STRANGERS } from './knock/pair.ts';
import { record, signed } from './record/result.ts';
import { writeSection } from './record/section.ts';
import { markdownTable } from './record/table.ts';
import { residentMegabytes } from './site/processor.ts';
import { Usage } from './site/usage.ts';

export const summary = 'what a thousand uncertified peers that knock at once take from a member';
export const help = [
  '  --knockers N       peers with keys and addresses of their own, and no certificate (default 1000)',
  '  --rounds N         each: knocking at a closed port, at the swarm’s port, at the door (default 3)',
  '  --rate RATE        of the member’s link (default 200Mbit)',
  '  --payload SIZE     that another member gets from it meanwhile (default 192MiB)',
  '  --share PART       of one processor, for all who knock (default 0.25)',
  '  --no-record        keep results and page as they are',
];

/** What is knocked at. Nothing listens at the first: what the generator and the link cost is in both. */
const TARGETS = {
  'closed port': { host: HOST, port: 4999, aim: 'swarm' },
  'swarm port': { host: HOST, port: 4001, aim: 'swarm' },
  door: { host: HOST, port: 4003, aim: 'door' },
} as const satisfies Record<string, Target>;
type Where = keyof typeof TARGETS;
const WHERE = Object.keys(TARGETS) as Where[];
const CONTROL: Where = 'closed port';

/** The limits. */
const MOST_GROWTH_MB = 50;
const LEAST_RATIO = 0.8;
/** Knocking goes on for so long before the exchange begins, milliseconds. */
const AHEAD_MS = 2_000;
/** After each turn, and after the last one, until what is left is looked at. */
const REST_MS = 3_000;
const LATER_MS = 20_000;
const RECORDED_ROUNDS = 3;
const HEADINGS = [
  'knocked at',
  'exchange MB/s',
  'of the control',
  'RSS + MB, most',
  'RSS + MB, left',
  'knocks/s arrived',
  'proven/s',
  'answered/s',
  'member CPU %',
  'link out Mbit/s',
  'link in',
  'idle %',
];

interface Turn {
  readonly mb_per_s: number;
  readonly rss_peak_mb: number;
  readonly rss_left_mb: number;
  readonly agent_cpu_s: number;
  readonly seconds: number;
  readonly link_out_mbit: number;
  readonly link_in_mbit: number;
  readonly idle_percent: number;
  /** At the member's kernel. */
  readonly arrived: number;
  readonly knocks: KnockReport;
}

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const { values } = parseArgs({
    args: argv,
    allowNegative: true,
    options: {
      json: { type: 'boolean', default: false },
      record: { type: 'boolean', default: true },
      knockers: { type: 'string', default: '1000' },
      rounds: { type: 'string', default: '3' },
      rate: { type: 'string', default: '200Mbit' },
      payload: { type: 'string', default: '192MiB' },
      share: { type: 'string', default: '0.25' },
    },
  });
  const [strangers, rounds, share] = [values.knockers, values.rounds, values.share].map(Number);
  const [rate, bytes] = [parseRate(values.rate), parseSize(values.payload)];
  if (!strangers || !rounds || !share || !rate || !bytes) throw new RangeError('all of these are numbers above 0');
  const directory = await mkdtemp(join(tmpdir(), 'bm-bench-knock-'));
  try {
    const measured = await measure({ directory, strangers, rounds, share, rate, bytes }, signal);
    const parameters = { knockers: strangers, share, rate: values.rate, payload: values.payload };
    const found = verdictOf(measured);
    const result = signed({ bench: 'knock', ok: found.faults.length === 0, rounds, parameters, ...found, ...measured });
    const text = [
      tableOf(measured, found),
      `${strangers} peers with an address each, ${share} of a processor for all (${measured.limited_by}), ${values.payload} over a link of ${values.rate}/s. The member had ${measured.rss_before_mb.toFixed(0)} MB before, and ${measured.rss_after_mb.toFixed(0)} MB ${LATER_MS / 1000} s after all of it.`,
    ].join('\n\n');
    console.log(text);
    if (values.record && rounds >= RECORDED_ROUNDS) {
      await record('knock', result);
      const { cpu, cores, kernel, node } = result.machine;
      const when = `Medians of ${rounds}, ${result.when.slice(0, 10)}: ${cpu}, ${cores} cores, Linux ${kernel}, Node ${node}.`;
      await writeSection('knock', [text, when].join('\n\n'));
    }
    for (const fault of found.faults) console.error(`FAILED  ${fault}`);
    if (values.json) console.log(JSON.stringify(result));
    if (found.faults.length > 0) process.exitCode = 1;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

interface Plan {
  readonly directory: string;
  readonly strangers: number;
  readonly rounds: number;
  readonly share: number;
  readonly rate: number;
  readonly bytes: number;
}

interface Measured {
  readonly limited_by: string;
  /** After the warm-up, and a while after all is over. */
  readonly rss_before_mb: number;
  readonly rss_after_mb: number;
  readonly turns: Readonly<Record<Where, readonly Turn[]>>;
}

async function measure(
  { directory, strangers, rounds, share, rate, bytes }: Plan,
  signal: AbortSignal,
): Promise<Measured> {
  await using stack = new AsyncDisposableStack();
  const payload = join(directory, 'payload');
  await writeNoise(payload, bytes);
  const pair = stack.use(await Pair.open({ directory, rate, payload }, { signal }));
  const outside = stack.use(await Outside.open(pair.outside, { strangers, network: STRANGERS, share }));
  const turns: Record<Where, Turn[]> = { 'closed port': [], 'swarm port': [], door: [] };
  // V8 compiles, and buffers reach the size of their work.
  for (let n = 0; n < 2; n += 1) await takeTurn(CONTROL, pair, outside, bytes, signal);
  const before = (await residentMegabytes(pair.pid)).now;
  console.error(`warm: the member has ${before.toFixed(0)} MB; the generator is limited by ${outside.by}`);
  for (let round = 1; round <= rounds; round += 1) {
    for (const where of WHERE) {
      const turn = await takeTurn(where, pair, outside, bytes, signal);
      turns[where].push(turn);
      const { nowhere, connected, proven, answered } = turn.knocks.knocks;
      console.error(
        `round ${round}, ${where}: ${turn.mb_per_s.toFixed(1)} MB/s, RSS ${turn.rss_peak_mb.toFixed(0)} MB at most, ${turn.agent_cpu_s.toFixed(1)} CPU s in ${turn.seconds.toFixed(1)} s, machine ${turn.idle_percent.toFixed(0)} % idle, ${turn.arrived} knocks arrived; the generator’s got nowhere ${nowhere}, connected ${connected}, proven ${proven}, answered ${answered}, in ${turn.knocks.cpu_s.toFixed(1)} CPU s`,
      );
    }
  }
  await delay(LATER_MS, undefined, { signal });
  if (!(await pair.areConnected(signal))) throw new Error('the two members have lost each other');
  const { now: after } = await residentMegabytes(pair.pid);
  return { limited_by: outside.by, rss_before_mb: before, rss_after_mb: after, turns };
}

async function takeTurn(where: Where, pair: Pair, outside: Outside, bytes: number, signal: AbortSignal): Promise<Turn> {
  await pair.clear(signal);
  outside.knockAt(TARGETS[where]);
  using usage = await Usage.start(() => [pair.pid]);
  const [from, sent, knocked] = [performance.now(), await pair.carried(), await pair.arrived()];
  await delay(AHEAD_MS, undefined, { signal });
  const copied = await pair.copy(signal);
  const seconds = (performance.now() - from) / 1000;
  const [carried, arrived] = [await pair.carried(), await pair.arrived()];
  const cost = await usage.stop();
  const knocks = await outside.end();
  await delay(REST_MS, undefined, { signal });
  const mbit = (after: number, before: number) => ((after - before) * 8) / 1e6 / seconds;
  return {
    mb_per_s: bytes / 1e6 / copied,
    rss_peak_mb: cost.peakRssMb,
    rss_left_mb: (await residentMegabytes(pair.pid)).now,
    agent_cpu_s: cost.cpuSeconds,
    seconds,
    link_out_mbit: mbit(carried.out, sent.out),
    link_in_mbit: mbit(carried.in, sent.in),
    idle_percent: cost.idlePercent,
    // Where nothing listens, each is answered by a reset.
    arrived: where === CONTROL ? arrived.refused - knocked.refused : arrived.accepted - knocked.accepted,
    knocks,
  };
}

interface Found {
  readonly faults: readonly string[];
  readonly against: Readonly<Partial<Record<Where, { readonly ratio: number; readonly growth_mb: number }>>>;
}

function verdictOf({ turns, rss_before_mb }: Measured): Found {
  const rateOf = (where: Where) => median(turns[where].map(({ mb_per_s }) => mb_per_s));
  const faults: string[] = [];
  const against: Partial<Record<Where, { ratio: number; growth_mb: number }>> = {};
  for (const where of WHERE) {
    if (where === CONTROL) continue;
    const ratio = rateOf(where) / rateOf(CONTROL);
    const growth_mb = Math.max(...turns[where].map(({ rss_peak_mb }) => rss_peak_mb)) - rss_before_mb;
    against[where] = { ratio, growth_mb };
    if (ratio < LEAST_RATIO)
      faults.push(`${where}: the exchange keeps ${percent(ratio)} of its rate, and must keep ${percent(LEAST_RATIO)}`);
    if (growth_mb >= MOST_GROWTH_MB)
      faults.push(`${where}: memory grows by ${growth_mb.toFixed(1)} MB, and may by less than ${MOST_GROWTH_MB}`);
  }
  return { faults, against };
}

function tableOf(measured: Measured, { against }: Found): string {
  const rows = WHERE.map((where) => {
    const all = measured.turns[where];
    const of = (value: (turn: Turn) => number) => median(all.map(value));
    const perSecond = (...kinds: (keyof KnockReport['knocks'])[]) =>
      of(({ knocks }) => kinds.reduce((sum, kind) => sum + knocks.knocks[kind], 0) / knocks.seconds).toFixed(0);
    const peak = Math.max(...all.map(({ rss_peak_mb }) => rss_peak_mb)) - measured.rss_before_mb;
    return [
      where,
      of(({ mb_per_s }) => mb_per_s).toFixed(1),
      percent(against[where]?.ratio ?? 1),
      peak.toFixed(1),
      (of(({ rss_left_mb }) => rss_left_mb) - measured.rss_before_mb).toFixed(1),
      of(({ arrived, seconds }) => arrived / seconds).toFixed(0),
      perSecond('proven', 'answered'),
      perSecond('answered'),
      of(({ agent_cpu_s, seconds }) => (100 * agent_cpu_s) / seconds).toFixed(0),
      of(({ link_out_mbit }) => link_out_mbit).toFixed(0),
      of(({ link_in_mbit }) => link_in_mbit).toFixed(1),
      of(({ idle_percent }) => idle_percent).toFixed(0),
    ];
  });
  return markdownTable(HEADINGS, rows);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

function percent(ratio: number): string {
  return `${(100 * ratio).toFixed(0)} %`;
}

/** Random, so that nothing of it is compressed or found twice. */
async function writeNoise(file: string, bytes: number): Promise<void> {
  const piece = 1024 * 1024;
  await using to = await open(file, 'w');
  for (let left = bytes; left > 0; left -= piece) await to.write(randomBytes(Math.min(left, piece)));
}
