import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Chunker } from '../../src/content/chunker.ts';
import { parseRate, parseSize } from '../../src/fleet/quantity.ts';
import { publishSim } from '../chart/sim.ts';
import { thisMachine } from '../record/machine.ts';
import { makePayload } from '../site/payload.ts';
import type { Comparison } from './comparison.ts';
import { keep, kept } from './keep.ts';
import { quantile } from './outcome.ts';
import { SCENARIO_DEFAULTS, type Scenario } from './scenario.ts';
import { simulate } from './simulate.ts';

/** A race of real agents, as the swarm bench has recorded it. */
interface Real {
  readonly parameters: {
    readonly nodes: number;
    readonly origin_rate: string;
    readonly rate: string;
    readonly payload: string;
    readonly lane: string;
  };
  readonly seed: number;
  readonly ours: { readonly seconds: number | null };
}

/** Numbers of nodes that are compared. */
const SIZES = [8, 16];
/** The share by which a simulated time may be off. */
const TOLERANCE = 0.15;

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));

/** Simulates what the swarm bench has measured with real agents, and compares the times until all had the payload. */
export async function check(
  { json }: { readonly json: boolean },
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  const compared: Comparison[] = [];
  for (const { parameters, seed, ours } of await realRuns(signal)) {
    if (ours.seconds === null) continue;
    const { nodes, origin_rate, rate, payload } = parameters;
    const sizes = await chunkSizes(parseSize(payload) ?? 0, seed, signal);
    const outcome = await simulate(scenarioOf(parameters, sizes.length), { signal, sizes });
    const simulated = quantile(outcome.times, 1) / 1000;
    const difference = (simulated - ours.seconds) / ours.seconds;
    const found = { n: nodes, origin_rate, rate, payload, real_s: ours.seconds, simulated_s: round(simulated) };
    compared.push({ ...found, difference: round(difference) });
    console.log(
      `${nodes} nodes, origin ${origin_rate}, nodes ${rate}, ${payload}: real ${ours.seconds} s, simulated ${round(simulated)} s, ${(100 * difference).toFixed(1)} %`,
    );
  }
  const failures = compared
    .filter(({ difference }) => Math.abs(difference) > TOLERANCE)
    .map(
      ({ n, rate, difference }) =>
        `${n} nodes at ${rate}: the simulated time is off by ${(100 * difference).toFixed(1)} %`,
    );
  for (const failure of failures) console.error(`FAILED  ${failure}`);
  if (failures.length > 0) process.exitCode = 1;
  await keep('sim', { parameters: { check: true }, ok: failures.length === 0, failures, compared });
  await publishSim();
  if (json) console.log(JSON.stringify({ ours: { compared }, peers: {}, machine: thisMachine() }));
}

/** What is recorded; the swarm bench is run for sizes that are not. */
async function realRuns(signal: AbortSignal): Promise<readonly Real[]> {
  const known = async (nodes: number) =>
    (await kept<Real>('swarm')).filter(
      ({ parameters: { nodes: n, rate, origin_rate } }) =>
        n === nodes && parseRate(rate) !== undefined && parseRate(origin_rate) !== undefined,
    );
  for (const nodes of SIZES) if ((await known(nodes)).length === 0) await runSwarm(nodes, signal);
  return (await Promise.all(SIZES.map(known))).flat();
}

async function runSwarm(nodes: number, signal: AbortSignal): Promise<void> {
  const child = spawn(process.execPath, [MAIN, 'swarm', '--nodes', String(nodes), '--peers', 'none'], {
    stdio: ['ignore', 'inherit', 'inherit'],
    signal,
  });
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    // Its own verdict is its own: here only what it has recorded counts.
    child.once('exit', () => resolve());
  });
}

/** One segment and the origin outside, everybody linked with everybody: the swarm bench's scene. */
function scenarioOf({ nodes, origin_rate, rate }: Real['parameters'], chunks: number): Scenario {
  return {
    ...SCENARIO_DEFAULTS,
    nodes,
    sites: 1,
    chunks,
    originRate: parseRate(origin_rate) ?? Number.POSITIVE_INFINITY,
    nodeRate: parseRate(rate) ?? Number.POSITIVE_INFINITY,
    uplinkRate: undefined,
    farDelayMs: SCENARIO_DEFAULTS.nearDelayMs,
    liars: 0,
    churn: 0,
    gateways: nodes,
    farLinks: 0,
    startMs: 0,
  };
}

/** Bytes of each chunk of the swarm bench's payload. */
async function chunkSizes(bytes: number, seed: number, signal: AbortSignal): Promise<number[]> {
  const directory = await mkdtemp(join(tmpdir(), 'bootmesh-sim-'));
  try {
    const { path } = await makePayload(join(directory, 'payload.bin'), bytes, seed);
    const sizes: number[] = [];
    const chunker = new Chunker();
    let rest = Buffer.alloc(0);
    const cut = (last: boolean) => {
      let start = 0;
      while (start < rest.length && (last || rest.length - start >= chunker.sizes.max)) {
        const end = chunker.cut(rest, start, rest.length);
        sizes.push(end - start);
        start = end;
      }
      rest = rest.subarray(start);
    };
    for await (const piece of createReadStream(path, { highWaterMark: 4 * 1024 * 1024, signal })) {
      rest = Buffer.concat([rest, piece as Buffer]);
      cut(false);
    }
    cut(true);
    return sizes;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
