import { readFile } from 'node:fs/promises';
import { record, signed } from '../record/result.ts';

/** A run, known by its parameters. */
interface Kept {
  readonly parameters: object;
}

interface Run extends Kept {
  readonly ok: boolean;
  readonly failures: readonly string[];
  /** What came out. */
  readonly [figures: string]: unknown;
}

/** Keeps `run` among the runs of bench/results/<bench>.json, in place of the one that had the same parameters. */
export async function keep(bench: string, run: Run): Promise<void> {
  const key = JSON.stringify(run.parameters);
  const others = (await kept<Kept>(bench)).filter(({ parameters }) => JSON.stringify(parameters) !== key);
  await record(bench, signed({ bench, entries: [...others, signed(run)] }));
}

/** All runs that are kept of a bench; none when it never ran. */
export async function kept<R extends Kept>(bench: string): Promise<readonly R[]> {
  try {
    const text = await readFile(new URL(`../results/${bench}.json`, import.meta.url), 'utf8');
    return (JSON.parse(text) as { entries: readonly R[] }).entries;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
