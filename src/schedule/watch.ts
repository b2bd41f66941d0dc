import type { Holder } from './holder.ts';

export interface WatchOptions {
  /** A neighbour is given up when it owes us something and sent nothing for this long, milliseconds. @default 1000 */
  readonly stallNearMs: number;
  /** The same for a peer outside our site. @default 4000 */
  readonly stallFarMs: number;
  /** A neighbour that downloads, too, and says nothing for this long fetches nothing for us, milliseconds. @default 700 */
  readonly silentMs: number;
}

export const WATCH_DEFAULTS: WatchOptions = { stallNearMs: 1_000, stallFarMs: 4_000, silentMs: 700 };

/**
 * When which peer is due: to be suspected, given up, called back from its rest, or taken for silent. All peers are
 * looked at when the first of them is due and not before. Times are milliseconds of any monotonic clock.
 */
export class Watch {
  /** What everybody is given beyond the usual before it is taken for gone. */
  graceMs = 0;
  readonly #options: WatchOptions;
  /** Peers that may be due earlier than was thought. */
  readonly #changed = new Set<Holder>();
  #dueAt = 0;

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  suspectAt({ remote }: Holder): number {
    return remote.window.suspectAt + this.graceMs;
  }

  giveUpAt({ remote }: Holder): number {
    const { stallNearMs, stallFarMs } = this.#options;
    const since = remote.window.silentSince ?? Number.POSITIVE_INFINITY;
    return this.graceMs + Math.max(remote.window.suspectAt, since + (remote.near ? stallNearMs : stallFarMs));
  }

  /** Something about the peer is new. */
  changed(holder: Holder): void {
    this.#changed.add(holder);
  }

  /** Somebody may be due now. */
  isDue(now: number): boolean {
    for (const { empty } of this.#changed) if (empty) return true;
    return now >= this.#dueAt;
  }

  /** When the next one is due. */
  next(now: number, holders: Iterable<Holder>): number {
    const all = now >= this.#dueAt;
    if (all) this.#dueAt = Number.POSITIVE_INFINITY;
    for (const holder of all ? holders : this.#changed) {
      if (holder.flights.size > 0)
        this.#dueAt = Math.min(this.#dueAt, holder.suspect ? this.giveUpAt(holder) : this.suspectAt(holder));
      if (holder.resting) this.#dueAt = Math.min(this.#dueAt, holder.restUntil);
      // Its silence matters.
      if (holder.takesPart) this.#dueAt = Math.min(this.#dueAt, holder.heardAt + this.#options.silentMs + this.graceMs);
    }
    this.#changed.clear();
    return this.#dueAt;
  }
}
