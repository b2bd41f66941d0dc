import { readFile } from 'node:fs/promises';
import { publishRaces } from '../chart/races.ts';
import { thisMachine } from '../record/machine.ts';
import { record, signed } from '../record/result.ts';
import type { Course } from './course.ts';
import type { Entry } from './entry.ts';
import type { Outcome } from './rounds.ts';
import type { Verdict } from './verdict.ts';

/** What a run is known by: another one with equal parameters takes its place. */
export type Parameters = Readonly<Record<string, string | number | null>>;

/** Fewer make no median. */
const RECORDED_ROUNDS = 3;

interface Kept {
  readonly parameters: Parameters;
}

/**
 * Says what came out, keeps it in bench/results/<bench>.json (one entry for each set of parameters) when there were
 * enough rounds, and makes the process fail when the verdict is not empty. `extra` is the bench's own.
 */
export async function conclude(
  bench: string,
  { course, parameters, boundSeconds, outcomes, verdict }: Conclusion,
  extra: object = {},
): Promise<void> {
  const [ours, ...others] = outcomes;
  const peers: Record<string, Entry> = Object.fromEntries(others.map(({ contender, entry }) => [contender, entry]));
  const { rounds, seed, lane } = course;
  const result = signed({
    ...{ parameters, rounds, seed, lane, bound_s: Math.round(boundSeconds * 1000) / 1000 },
    ...{ ok: verdict.length === 0, failures: verdict, ours: ours.entry, peers },
    ...extra,
  });
  if (rounds >= RECORDED_ROUNDS) await keep(bench, parameters, result);
  else console.log(`not recorded: a median needs --rounds ${RECORDED_ROUNDS}`);
  for (const fault of verdict) console.error(`FAILED  ${fault}`);
  if (verdict.length > 0) process.exitCode = 1;
  if (course.json) console.log(JSON.stringify({ ours: { ...ours.entry, ...extra }, peers, machine: thisMachine() }));
}

export interface Conclusion {
  readonly course: Course;
  readonly parameters: Parameters;
  readonly boundSeconds: number;
  readonly outcomes: readonly [Outcome, ...Outcome[]];
  readonly verdict: Verdict;
}

async function keep(bench: string, parameters: Parameters, result: Kept): Promise<void> {
  const key = JSON.stringify(parameters);
  const others = (await entries(bench)).filter((each) => JSON.stringify(each.parameters) !== key);
  await record(bench, signed({ bench, entries: [...others, result] }));
  await publishRaces(bench);
}

async function entries(bench: string): Promise<readonly Kept[]> {
  try {
    const text = await readFile(new URL(`../results/${bench}.json`, import.meta.url), 'utf8');
    return (JSON.parse(text) as { entries: readonly Kept[] }).entries;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
