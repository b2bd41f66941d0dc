import { readFile, writeFile } from 'node:fs/promises';
import type { Machine } from '../record/machine.ts';
import { writeSection } from '../record/section.ts';
import { markdownTable } from '../record/table.ts';
import type { Entry } from '../site/entry.ts';
import { barChart } from './bars.ts';
import { measured } from './measured.ts';

const RESULTS = new URL('../results/', import.meta.url);
/** Bars of the time and of the origin's egress end here: one server alone takes N times as long as the bound. */
const MOST_TIME = 2.5;
const MOST_EGRESS = 3;
/** Parameters that read better after their value. */
const COUNTED = ['sites', 'nodes', 'copies'];

/** What `bench/results/<bench>.json` holds of a bench that lets contenders race. */
interface Races {
  readonly entries: readonly Result[];
}

interface Result {
  readonly parameters: Readonly<Record<string, string | number | null>>;
  readonly rounds: number;
  /** What was promised and did not hold. */
  readonly failures: readonly string[];
  readonly ours: Entry;
  readonly peers: Readonly<Record<string, Entry>>;
  readonly machine: Machine;
  readonly when: string;
}

/** Writes the bench's chart and its section of bench/README.md from its results. */
export async function publishRaces(bench: string): Promise<void> {
  const { entries } = JSON.parse(await readFile(new URL(`${bench}.json`, RESULTS), 'utf8')) as Races;
  const cases = [...entries].sort((a, b) => caseName(a).localeCompare(caseName(b), 'en', { numeric: true }));
  await writeFile(new URL(`${bench}.svg`, RESULTS), chart(bench, cases));
  const uplinks = cases.some(({ ours }) => Object.keys(ours.uplinks).length > 1);
  const section = [
    `![${bench}: time and origin egress of each contender](results/${bench}.svg)`,
    markdownTable(
      headings(uplinks),
      cases.flatMap((each) => rows(each, uplinks)),
    ),
    ...cases.filter(({ failures }) => failures.length > 0).map(failed),
    ...new Set(cases.map(measured)),
  ];
  await writeSection(bench, section.join('\n\n'));
}

function chart(bench: string, cases: readonly Result[]): string {
  return barChart({
    title: `${bench}: the last copy is complete, over the bound`,
    panels: [
      { title: 'time ÷ bound (dashed: the bound)', line: 1, most: MOST_TIME },
      { title: 'payloads from the origin, on the wire (dashed: one)', line: 1, most: MOST_EGRESS },
    ],
    groups: cases.map((result) => ({
      title: caseName(result),
      bars: contenders(result).map(([label, { ratio_to_bound, origin_egress }]) => {
        return { label, ours: label === 'ours', values: [ratio_to_bound, origin_egress] };
      }),
    })),
  });
}

function headings(uplinks: boolean): string[] {
  const times = ['time ÷ bound', 'p50', 'p99'];
  const bytes = ['origin, wire', 'origin, payload', ...(uplinks ? ['most on an uplink'] : [])];
  return ['', ...times, ...bytes, 'CPU s/GB', 'idle %', 'peak RSS MB', 'right copies', 'lane'];
}

function rows(result: Result, uplinks: boolean): string[][] {
  return [
    [`**${caseName(result)}**`],
    ...contenders(result).map(([name, entry]) => [
      name,
      ...[figure(entry.ratio_to_bound), figure(entry.ratio_p50), figure(entry.ratio_p99)],
      ...[figure(entry.origin_egress), figure(entry.origin_payload)],
      ...(uplinks ? [figure(Math.max(...Object.values(entry.uplinks).flatMap(({ down, up }) => [down, up])))] : []),
      ...[figure(entry.cpu_s_per_gb), figure(entry.machine_idle_percent, 0), figure(entry.peak_rss_mb, 0)],
      ...[`${entry.verified} of ${entry.n}`, entry.lane ?? ''],
    ]),
  ];
}

function failed(result: Result): string {
  return `**Not held**, ${caseName(result)}: ${result.failures.join('; ')}.`;
}

function contenders({ ours, peers }: Result): [name: string, entry: Entry][] {
  const by = (entry: Entry) => entry.ratio_to_bound ?? Number.POSITIVE_INFINITY;
  return Object.entries({ ours, ...peers }).sort(([, a], [, b]) => by(a) - by(b));
}

/** `8 nodes, origin rate 100Mbit, …`, in the words and the order of the parameters. */
function caseName({ parameters }: Result): string {
  const told = Object.entries(parameters).filter(
    ([name, value]) => value !== null && !(name === 'lane' && value === 'auto'),
  );
  return told
    .map(([name, value]) => (COUNTED.includes(name) ? `${value} ${name}` : `${name.replaceAll('_', ' ')} ${value}`))
    .join(', ');
}

function figure(value: number | null | undefined, digits = 2): string {
  if (value === undefined) return '';
  return value === null ? '–' : value.toFixed(digits);
}
