import type { Crossing, Meeting } from './crossing.ts';
import { type Event, EventQueue } from './event-queue.ts';

export interface TimelineOptions {
  /** Sites, and one place more for what is of no site. */
  readonly places: number;
  /** Whatever one place does reaches another one after this long at the earliest. */
  readonly lookaheadMs: number;
  readonly meeting: Meeting;
}

/**
 * What happens next, place by place: whatever one does reaches another one after `lookaheadMs` at the earliest, so each
 * may live through that long a window alone (conservative time windows, as in parallel simulation; Chandy and Misra
 * 1979): in a thread of its own, or in turn with others, whose nodes then fit into the processor's caches. What concerns
 * several places at once (links, deaths) happens between windows, in every thread.
 */
export class Timeline {
  readonly #queues: readonly EventQueue[];
  readonly #own: readonly number[];
  readonly #between = new EventQueue();
  readonly #lookaheadMs: number;
  readonly #meeting: Meeting;
  #crossings: Crossing[] = [];
  #window = -1;

  constructor({ places, lookaheadMs, meeting }: TimelineOptions) {
    if (!(lookaheadMs > 0)) throw new RangeError('sites must be some time apart');
    this.#queues = Array.from({ length: places }, () => new EventQueue());
    this.#own = Array.from(this.#queues.keys()).filter((place) => meeting.owns(place));
    this.#lookaheadMs = lookaheadMs;
    this.#meeting = meeting;
  }

  /** The queue of one place. */
  at(place: number): EventQueue {
    return this.#queues[place] as EventQueue;
  }

  /** What happens between two windows, up to one window late. */
  get between(): EventQueue {
    return this.#between;
  }

  /** What one place does to another one, or to all. */
  cross(crossing: Crossing): void {
    this.#crossings.push(crossing);
  }

  /**
   * Brings what has crossed, and says when the next thing happens.
   *
   * @param done what this thread has done so far; the sum of all threads' comes back
   */
  meet(done: number): { readonly next: number; readonly done: number } {
    const { crossings, ...all } = this.#meeting.meet(this.#crossings, this.#nextTime(), done);
    this.#crossings = [];
    for (const { to, time, kind, a, b, value } of crossings) {
      const queue = to === undefined ? this.#between : this.at(to);
      queue.push(time, kind, a, b, 0, value);
    }
    return all;
  }

  /** Lets everything of the window of `next` happen; its start. */
  advance(
    next: number,
    happen: (event: Event, place: number) => void,
    happenBetween: (event: Event, now: number) => void,
  ): number {
    this.#window = Math.max(this.#window + 1, Math.floor(next / this.#lookaheadMs));
    const start = this.#window * this.#lookaheadMs;
    const end = (this.#window + 1) * this.#lookaheadMs;
    while (this.#between.nextTime <= start) happenBetween(this.#between.pop() as Event, start);
    for (const place of this.#own) {
      const queue = this.at(place);
      while (queue.nextTime < end) happen(queue.pop() as Event, place);
    }
    return start;
  }

  #nextTime(): number {
    let next = this.#between.nextTime;
    for (const place of this.#own) next = Math.min(next, this.at(place).nextTime);
    for (const { time } of this.#crossings) next = Math.min(next, time);
    return next;
  }
}
