import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { formatRate, parseRate } from '../src/fleet/quantity.ts';
import { publishSim } from './chart/sim.ts';
import { thisMachine } from './record/machine.ts';
import { simulateApart } from './sim/apart.ts';
import { check } from './sim/check.ts';
import { keep } from './sim/keep.ts';
import { faults } from './sim/outcome.ts';
import { entryOf, linesOf } from './sim/report.ts';
import { checked, SCENARIO_DEFAULTS, type Scenario } from './sim/scenario.ts';

export const summary =
  'up to 10,000 nodes in sites with thin uplinks, churn and liars, simulated on the agent’s own decisions';

/** Nodes of a site, when the number of sites is not given. */
const USUAL_SITE = 50;
/** What a run may cost, up to 10,000 nodes: seconds, bytes of memory. */
const MOST_S = 300;
const MOST_RSS_MB = 8_000;
/** Payloads that an uplink may carry. */
const MOST_UPLINK = 1.1;

const FLAGS: Readonly<Record<string, readonly [meaning: string, value: string]>> = {
  nodes: ['receivers', String(SCENARIO_DEFAULTS.nodes)],
  sites: ['sites that they are spread over evenly', `one for ${USUAL_SITE} nodes`],
  chunks: ['chunks of 128 KiB that each of them needs', String(SCENARIO_DEFAULTS.chunks)],
  liars: ['share of the nodes that lie, in per cent', String(100 * SCENARIO_DEFAULTS.liars)],
  churn: ['share of the nodes that die and come back each minute, in per cent', String(100 * SCENARIO_DEFAULTS.churn)],
  'origin-rate': ['the origin’s link, each way', 'half of all uplinks together'],
  rate: ['each node’s link, each way', formatRate(SCENARIO_DEFAULTS.nodeRate)],
  uplink: ['each site’s uplink, each way, or none', formatRate(SCENARIO_DEFAULTS.uplinkRate ?? 0)],
  neighbours: ['links of a node to neighbours, at most', String(SCENARIO_DEFAULTS.neighbours)],
  gateways: ['nodes of a site with links to other sites', String(SCENARIO_DEFAULTS.gateways)],
  seed: ['of all chance: the same seed, the same run', String(SCENARIO_DEFAULTS.seed)],
};

export const help = [
  ...Object.entries(FLAGS).map(([name, [meaning, value]]) => `  --${name.padEnd(16)}${meaning} (${value})`),
  '  --threads         that share the work; the outcome does not depend on it (one for each core)',
  '  --check           compare with the real runs that the swarm bench has recorded, or runs now',
  '  --json            the last line of output is one JSON object',
];

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const options: Record<string, { type: 'string' | 'boolean' }> = {
    json: { type: 'boolean' },
    check: { type: 'boolean' },
    threads: { type: 'string' },
  };
  for (const name of Object.keys(FLAGS)) options[name] = { type: 'string' };
  const { values } = parseArgs({ args: argv, options });
  if (values['check'] === true) return check({ json: values['json'] === true }, { signal });
  const scenario = checked(scenarioOf(values));
  const startedAt = performance.now();
  const cpuBefore = process.cpuUsage();
  const outcome = await simulateApart(scenario, { signal, threads: threadsOf(values['threads']) });
  const { user, system } = process.cpuUsage(cpuBefore);
  const seconds = (performance.now() - startedAt) / 1000;
  const ours = entryOf(outcome, scenario, { seconds, cpuSeconds: (user + system) / 1e6 });
  for (const line of linesOf(scenario, ours)) console.log(line);
  const failures = [
    ...faults(outcome, { mostUplink: MOST_UPLINK }),
    ...(seconds > MOST_S ? [`the run took ${ours.seconds} s, and may ${MOST_S}`] : []),
    ...(ours.peak_rss_mb > MOST_RSS_MB ? [`it took ${ours.peak_rss_mb} MB, and may ${MOST_RSS_MB}`] : []),
  ];
  for (const failure of failures) console.error(`FAILED  ${failure}`);
  if (failures.length > 0) process.exitCode = 1;
  await keep('sim', { parameters: scenario, ok: failures.length === 0, failures, ours, peers: {} });
  await publishSim();
  if (values['json'] === true) console.log(JSON.stringify({ ours, peers: {}, machine: thisMachine() }));
}

function threadsOf(value: string | boolean | undefined): number {
  const threads = Number(value ?? availableParallelism());
  if (Number.isInteger(threads) && threads > 0) return threads;
  throw new RangeError(`--threads ${value}: write a whole number from 1`);
}

function scenarioOf(values: Readonly<Record<string, string | boolean | undefined>>): Scenario {
  const number = (name: string, usual: number) => {
    const value = Number(values[name] ?? usual);
    if (Number.isFinite(value)) return value;
    throw new RangeError(`--${name} ${values[name]}: write a number`);
  };
  const rate = (name: string, usual: number) => {
    const value = values[name] === undefined ? usual : parseRate(String(values[name]));
    if (value) return value;
    throw new RangeError(`--${name} ${values[name]}: write a rate such as 100Mbit`);
  };
  const usual = SCENARIO_DEFAULTS;
  const nodes = number('nodes', usual.nodes);
  const sites = number('sites', Math.ceil(nodes / USUAL_SITE));
  const uplinkRate = values['uplink'] === 'none' ? undefined : rate('uplink', usual.uplinkRate ?? 0);
  return {
    ...usual,
    nodes,
    sites,
    chunks: number('chunks', usual.chunks),
    liars: number('liars', 100 * usual.liars) / 100,
    churn: number('churn', 100 * usual.churn) / 100,
    originRate: rate('origin-rate', (sites * (uplinkRate ?? usual.nodeRate)) / 2),
    nodeRate: rate('rate', usual.nodeRate),
    uplinkRate,
    neighbours: number('neighbours', usual.neighbours),
    gateways: number('gateways', usual.gateways),
    seed: number('seed', usual.seed),
  };
}
