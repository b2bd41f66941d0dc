import type { Holder } from './holder.ts';

/** Chunks that one peer is to be asked for, or not any more. */
export interface Errand {
  readonly peer: string;
  readonly indexes: readonly number[];
}

/** What is asked for and has not come: of one peer, or of more when the first made us wait. */
export class Flights {
  readonly #byIndex = new Map<number, Holder[]>();
  readonly #asks = new Map<string, number[]>();
  readonly #cancels = new Map<string, number[]>();

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

  start(index: number, holder: Holder, now: number): void {
    holder.flights.set(index, now);
    push(this.#byIndex, index, holder);
    push(this.#asks, holder.id, index);
  }

  /** It brought the chunk, or nothing. False when there was no such flight. */
  end(index: number, holder: Holder): boolean {
    if (!holder.flights.delete(index)) return false;
    const owing = this.#byIndex.get(index);
    if (owing !== undefined && owing.length > 1)
      this.#byIndex.set(
        index,
        owing.filter(({ id }) => id !== holder.id),
      );
    else this.#byIndex.delete(index);
    return true;
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
