import { mkdir, writeFile } from 'node:fs/promises';
import { type Machine, thisMachine } from './machine.ts';

const results = new URL('../results/', import.meta.url);

/** What a bench found, where and when. */
export type Recorded<R> = R & {
  readonly machine: Machine;
  /** ISO 8601. */
  readonly when: string;
};

/** Adds to `result` where and when it was found. */
export function signed<R extends object>(result: R): Recorded<R> {
  return { ...result, machine: thisMachine(), when: new Date().toISOString() };
}

/** Keeps it as `bench/results/<name>.json`, in place of the one before. */
export async function record(name: string, result: Recorded<object>): Promise<void> {
  await mkdir(results, { recursive: true });
  await writeFile(new URL(`${name}.json`, results), `${JSON.stringify(result, null, 1)}\n`);
}
