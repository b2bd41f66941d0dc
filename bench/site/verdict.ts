import type { Entry } from './entry.ts';
import type { Outcome } from './rounds.ts';

/** What must hold for a bench to succeed: a sentence for each thing that does not. */
export type Verdict = readonly string[];

/** Every node of every contender has a right copy. */
export function allVerified(outcomes: readonly Outcome[]): Verdict {
  return outcomes.flatMap(({ contender, entry }) => {
    if (entry.verified === entry.n) return [];
    return [`${contender}: ${entry.finished} of ${entry.n} nodes finished, ${entry.verified} with a right copy`];
  });
}

/** A figure that may not be exceeded; one that is missing has failed. */
export function atMost(what: string, value: number | null | undefined, limit: number): Verdict {
  if (value !== null && value !== undefined && value <= limit) return [];
  return [`ours: ${what} is ${value ?? 'unknown'}, and may be ${limit}`];
}

/** Nobody who was measured beside us was faster. */
export function aheadOfAll([ours, ...peers]: readonly [Outcome, ...Outcome[]]): Verdict {
  const time = ({ seconds }: Entry) => seconds ?? Number.POSITIVE_INFINITY;
  return peers.flatMap(({ contender, entry }) =>
    time(entry) <= time(ours.entry)
      ? [`ours: ${contender} was faster, ${entry.seconds} s to ${ours.entry.seconds} s`]
      : [],
  );
}
