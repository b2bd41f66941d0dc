/** Something that one place does to another one: an event there, a window later at the earliest. */
export interface Crossing {
  readonly from: number;
  /** undefined: to all places. */
  readonly to: number | undefined;
  readonly time: number;
  readonly kind: number;
  readonly a: number;
  readonly b: number;
  /** What threads can send to each other (structured clone). */
  readonly value: unknown;
}

/** What the threads of a simulation know of each other between two windows. */
export interface Met {
  /** What is for this thread's places, its own places' included, in an order that does not depend on threads. */
  readonly crossings: readonly Crossing[];
  /** The earliest time at which anything happens anywhere. */
  readonly next: number;
  /** What all have done. */
  readonly done: number;
}

/** Where the threads of one simulation meet between windows. */
export interface Meeting {
  /** This thread is the first one, which counts what all of them do alike. */
  readonly first: boolean;
  owns(place: number): boolean;
  meet(crossings: readonly Crossing[], next: number, done: number): Met;
}

/** The meeting of a simulation that runs in one thread. */
export const ALONE: Meeting = {
  first: true,
  owns: () => true,
  meet: (crossings, next, done) => ({ crossings: inOrder(crossings), next, done }),
};

/** By place of origin, and each place's own in the order in which they came about. */
export function inOrder(crossings: readonly Crossing[]): Crossing[] {
  return crossings.toSorted((a, b) => a.from - b.from);
}
