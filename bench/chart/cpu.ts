import { readFile, writeFile } from 'node:fs/promises';
import type { Machine } from '../record/machine.ts';
import { writeSection } from '../record/section.ts';
import { markdownTable } from '../record/table.ts';
import type { Entry } from '../site/entry.ts';
import { barChart } from './bars.ts';
import { measured } from './measured.ts';

const RESULTS = new URL('../results/', import.meta.url);

/** What one contender did without a bound to be compared with. */
export type CpuEntry = Omit<Entry, 'ratio_to_bound' | 'ratio_p50' | 'ratio_p99' | 'node_seconds' | 'uplinks'> & {
  /** Payload bytes that all nodes together got, over the time of the last one. */
  readonly mb_per_s: number | null;
};

/** What bench/results/cpu.json holds. */
interface CpuResult {
  readonly payload: string;
  readonly nodes: number;
  readonly rounds: number;
  /** What was promised and did not hold. */
  readonly failures: readonly string[];
  readonly entries: Readonly<Record<string, CpuEntry>>;
  readonly machine: Machine;
  readonly when: string;
}

/** Writes the chart of the cpu bench and its section of bench/README.md from its results. */
export async function publishCpu(): Promise<void> {
  const result = JSON.parse(await readFile(new URL('cpu.json', RESULTS), 'utf8')) as CpuResult;
  const entries = Object.entries(result.entries).sort(([, a], [, b]) => a.cpu_s_per_gb - b.cpu_s_per_gb);
  const chart = barChart({
    title: 'cpu: what a delivered GB costs',
    panels: [{ title: 'CPU seconds per GB, all processes' }, { title: 'MB/s, all nodes together', digits: 0 }],
    groups: [
      {
        title: `${result.nodes} nodes, unshaped, payload ${result.payload}`,
        bars: entries.map(([label, { cpu_s_per_gb, mb_per_s }]) => {
          return { label, ours: label.startsWith('ours'), values: [cpu_s_per_gb, mb_per_s] };
        }),
      },
    ],
  });
  await writeFile(new URL('cpu.svg', RESULTS), chart);
  const headings = [
    '',
    'CPU s/GB',
    'MB/s',
    'idle RSS MB',
    'peak RSS MB',
    'one grew by MB',
    'origin, wire',
    'right copies',
  ];
  const rows = entries.map(([name, entry]) => [
    name,
    ...[entry.cpu_s_per_gb.toFixed(2), entry.mb_per_s?.toFixed(0) ?? '–'],
    ...[entry.idle_rss_mb, entry.peak_rss_mb, entry.grown_rss_mb].map((megabytes) => megabytes.toFixed(0)),
    ...[entry.origin_egress.toFixed(2), `${entry.verified} of ${entry.n}`],
  ]);
  const image = '![cpu: CPU seconds per delivered GB, and MB/s, of each contender](results/cpu.svg)';
  const failed = result.failures.length === 0 ? [] : [`**Not held**: ${result.failures.join('; ')}.`];
  await writeSection('cpu', [image, markdownTable(headings, rows), ...failed, measured(result)].join('\n\n'));
}
