import { type Event, EventQueue } from './event-queue.ts';

/**
 * What happens next, site by site: whatever one site does reaches another one after `lookaheadMs` at the earliest, so
 * each site in turn may live through that long a window alone (conservative time windows, as in parallel simulation;
 * Chandy and Misra 1979). One site's nodes fit into the processor's caches, those of all sites do not. What concerns
 * several sites at once (links, deaths) happens between windows.
 */
export class Timeline {
  readonly #sites: readonly EventQueue[];
  readonly #between = new EventQueue();
  readonly #lookaheadMs: number;
  #window = 0;

  /** @param places sites, and one place more for what is of no site */
  constructor(places: number, lookaheadMs: number) {
    if (!(lookaheadMs > 0)) throw new RangeError('sites must be some time apart');
    this.#sites = Array.from({ length: places }, () => new EventQueue());
    this.#lookaheadMs = lookaheadMs;
  }

  /** The queue of one place. A negative number means the last one. */
  at(place: number): EventQueue {
    return this.#sites.at(place) as EventQueue;
  }

  /** What happens between two windows, up to one window late. */
  get between(): EventQueue {
    return this.#between;
  }

  /** Lets everything of the next window that is not empty happen; its start, or undefined when nothing is left. */
  advance(happen: (event: Event) => void, happenBetween: (event: Event, now: number) => void): number | undefined {
    const next = Math.min(this.#between.nextTime, ...this.#sites.map(({ nextTime }) => nextTime));
    if (next === Number.POSITIVE_INFINITY) return undefined;
    this.#window = Math.max(this.#window + 1, Math.floor(next / this.#lookaheadMs));
    const start = this.#window * this.#lookaheadMs;
    const end = (this.#window + 1) * this.#lookaheadMs;
    while (this.#between.nextTime <= start) happenBetween(this.#between.pop() as Event, start);
    for (const queue of this.#sites) while (queue.nextTime < end) happen(queue.pop() as Event);
    return start;
  }
}
