import type { Holder } from './holder.ts';
import { Window } from './window.ts';

/** Chunks that one peer is to be asked for, or not any more. */
export interface Errand {
  readonly peer: string;
  readonly indexes: readonly number[];
}

/**
 * Peers outside share the uplink with all that the neighbours ask of theirs: a floor for each pair of them would be a
 * queue of many seconds, behind which claims grow old and the last chunks come late.
 */
const OUTSIDE = { initial: 256 * 1024, floor: 256 * 1024, ceiling: 32 * 1024 * 1024, queueMs: 500 };
/** What somebody outside has owed us for longer counts no more, so that a slow one keeps nobody else waiting. */
const YOUNG_MS = 1_000;

/** What is asked for and has not come: of one peer, or of more when the first made us wait. */
export class Flights {
  readonly #sizes: ArrayLike<number>;
  /** What is asked of all peers outside together. */
  readonly #outside = new Window(OUTSIDE);
  readonly #byIndex = new Map<number, Holder[]>();
  readonly #asks = new Map<string, number[]>();
  readonly #cancels = new Map<string, number[]>();

  /** @param sizes plain bytes of each chunk */
  constructor(sizes: ArrayLike<number>) {
    this.#sizes = sizes;
  }

  /** Chunks that are on their way. */
  get count(): number {
    return this.#byIndex.size;
  }

  has(index: number): boolean {
    return this.#byIndex.has(index);
  }

  /** Peers that owe us the chunk. */
  countOf(index: number): number {
    return this.#byIndex.get(index)?.length ?? 0;
  }

  /** Bytes that may be asked of `holders` outside now, all together. */
  roomOutside(holders: Iterable<Holder>, now: number): number {
    return this.#outside.target - this.#young(holders, now).bytes;
  }

  /** When there is room again although nothing comes; Infinity while there is. */
  roomAt(holders: Iterable<Holder>, now: number): number {
    const { bytes, oldest } = this.#young(holders, now);
    return bytes < this.#outside.target ? Number.POSITIVE_INFINITY : oldest + YOUNG_MS;
  }

  /** What `holders` outside were asked for lately, and when for the oldest of it. */
  #young(holders: Iterable<Holder>, now: number): { readonly bytes: number; readonly oldest: number } {
    let bytes = 0;
    let oldest = Number.POSITIVE_INFINITY;
    for (const { remote, flights } of holders) {
      if (remote.near) continue;
      for (const [index, askedAt] of flights) {
        if (now - askedAt >= YOUNG_MS) continue;
        bytes += this.#sizes[index] ?? 0;
        oldest = Math.min(oldest, askedAt);
      }
    }
    return { bytes, oldest };
  }

  start(index: number, holder: Holder, now: number): void {
    holder.flights.set(index, now);
    if (!holder.remote.near) this.#outside.asked(this.#sizes[index] ?? 0, now);
    push(this.#byIndex, index, holder);
    push(this.#asks, holder.id, index);
  }

  /** It brought the chunk. Returns how long that took, milliseconds; undefined when there was no such flight. */
  arrived(index: number, holder: Holder, now: number): number | undefined {
    const askedAt = holder.flights.get(index);
    if (askedAt === undefined) return undefined;
    if (!holder.remote.near) this.#outside.delivered(this.#sizes[index] ?? 0, now - askedAt, now);
    this.#remove(index, holder);
    return now - askedAt;
  }

  /** It brought nothing. False when there was no such flight. */
  end(index: number, holder: Holder): boolean {
    if (!holder.flights.has(index)) return false;
    if (!holder.remote.near) this.#outside.released(this.#sizes[index] ?? 0);
    this.#remove(index, holder);
    return true;
  }

  #remove(index: number, holder: Holder): void {
    holder.flights.delete(index);
    const owing = this.#byIndex.get(index);
    if (owing !== undefined && owing.length > 1)
      this.#byIndex.set(
        index,
        owing.filter(({ id }) => id !== holder.id),
      );
    else this.#byIndex.delete(index);
  }

  cancel(index: number, holder: Holder): void {
    if (this.end(index, holder)) push(this.#cancels, holder.id, index);
  }

  cancelAll(index: number): void {
    for (const holder of this.#byIndex.get(index) ?? []) this.cancel(index, holder);
  }

  everything(): number[] {
    return [...this.#byIndex.keys()];
  }

  /** There is nothing to tell to the peers. */
  get told(): boolean {
    return this.#asks.size + this.#cancels.size === 0;
  }

  /** What has to be told to the peers since the last call. */
  errands(): { readonly asks: readonly Errand[]; readonly cancels: readonly Errand[] } {
    return { asks: take(this.#asks), cancels: take(this.#cancels) };
  }
}

const NONE: readonly Errand[] = [];

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

function take(by: Map<string, number[]>): readonly Errand[] {
  if (by.size === 0) return NONE;
  const list = [...by].map(([peer, indexes]) => ({ peer, indexes }));
  by.clear();
  return list;
}
