import { writeFile } from 'node:fs/promises';
import type { Machine } from '../record/machine.ts';
import { writeSection } from '../record/section.ts';
import { markdownTable } from '../record/table.ts';
import type { Comparison } from '../sim/comparison.ts';
import { kept } from '../sim/keep.ts';
import type { Entry } from '../sim/report.ts';
import type { Scenario } from '../sim/scenario.ts';
import { barChart } from './bars.ts';

interface Kept {
  readonly parameters: Partial<Scenario> & { readonly check?: boolean };
  readonly failures: readonly string[];
  readonly machine: Machine;
  readonly when: string;
}

/** A simulated run that is kept. */
interface Run extends Kept {
  readonly parameters: Scenario;
  readonly ours: Entry;
}

/** A comparison with real runs that is kept. */
interface Check extends Kept {
  readonly compared: readonly Comparison[];
}

/** Writes the chart of the sim bench and its section of bench/README.md from its results. */
export async function publishSim(): Promise<void> {
  const all = await kept<Kept>('sim');
  const runs = all.filter((one): one is Run => 'ours' in one).sort((a, b) => a.ours.n - b.ours.n);
  const check = all.find((one): one is Check => 'compared' in one);
  const chart = barChart({
    title: 'sim: time of the nodes, and what uplinks carry',
    panels: [{ title: 'time ÷ bound, p50' }, { title: 'payloads over the busiest uplink' }],
    groups: runs.map(({ parameters, ours }) => ({
      title: `${parameters.nodes} nodes in ${parameters.sites} sites`,
      bars: [{ label: 'ours, simulated', ours: true, values: [ours.ratio_p50, ours.uplink_most] }],
    })),
  });
  await writeFile(new URL('../results/sim.svg', import.meta.url), chart);
  const image = '![sim: time of the nodes over the bound, and payloads over the busiest uplink](results/sim.svg)';
  const faults = all.flatMap(({ failures }) => failures);
  const failed = faults.length === 0 ? [] : [`**Not held**: ${faults.join('; ')}.`];
  const parts = [image, runTable(runs), ...(check ? [checkTable(check.compared)] : []), ...failed, footer(all)];
  await writeSection('sim', parts.join('\n\n'));
}

function runTable(runs: readonly Run[]): string {
  const times = ['time ÷ bound, p50', 'p99', 'last'];
  const headings = ['', 'finished', ...times, 'wrong chunks', 'uplinks, mean', 'most', 'seconds', 'CPU s', 'RSS MB'];
  const rows = runs.map(({ parameters: { nodes, sites, liars, churn, chunks }, ours }) => [
    `${nodes} nodes in ${sites} sites, ${chunks} chunks, ${100 * liars} % liars, ${100 * churn} % churn a minute`,
    `${ours.finished} of ${ours.honest}`,
    ...[ours.ratio_p50, ours.ratio_p99, ours.ratio_to_bound].map((ratio) => ratio.toFixed(2)),
    ...[String(ours.wrong_chunks), ours.uplink_mean.toFixed(3), ours.uplink_most.toFixed(3)],
    ...[ours.seconds, ours.cpu_s, ours.peak_rss_mb].map((figure) => figure.toFixed(0)),
  ]);
  return markdownTable(headings, rows);
}

function checkTable(compared: readonly Comparison[]): string {
  const rows = compared.map(({ n, origin_rate, rate, payload, real_s, simulated_s, difference }) => [
    `${n} nodes, origin rate ${origin_rate}, rate ${rate}, payload ${payload}`,
    ...[real_s.toFixed(2), simulated_s.toFixed(2), `${(100 * difference).toFixed(1)} %`],
  ]);
  return markdownTable(['--check', 'real s', 'simulated s', 'difference'], rows);
}

function footer(all: readonly Kept[]): string {
  const [last] = all.toSorted((a, b) => b.when.localeCompare(a.when));
  if (last === undefined) return '';
  const { cpu, cores, kernel, node } = last.machine;
  return `${last.when.slice(0, 10)}: ${cpu}, ${cores} cores, Linux ${kernel}, Node ${node}.`;
}
