/**
 * Chunks that are wanted and not asked for, sorted into ranks (a rank is how rare a chunk is, or whose it is to fetch).
 * Putting, moving, taking and starting a walk at a random place are O(1), so that a choice among a hundred thousand
 * chunks costs what it looks at and no more.
 */
export class Shelf {
  readonly #ranks: number[][];
  readonly #place: Int32Array;
  readonly #rank: Uint8Array;
  #count = 0;

  /** An empty shelf for a set of `size` chunks. @param ranks at most 255 */
  constructor(size: number, ranks: number) {
    this.#ranks = Array.from({ length: ranks }, () => []);
    this.#place = new Int32Array(size).fill(-1);
    this.#rank = new Uint8Array(size);
  }

  get count(): number {
    return this.#count;
  }

  get ranks(): number {
    return this.#ranks.length;
  }

  /** How many chunks have this rank. */
  countOf(rank: number): number {
    return this.#ranks[rank]?.length ?? 0;
  }

  has(index: number): boolean {
    return (this.#place[index] ?? -1) >= 0;
  }

  /** Puts it there, or moves it when it is on the shelf already. */
  put(index: number, rank: number): void {
    if (this.has(index)) {
      if (this.#rank[index] === rank) return;
      this.take(index);
    }
    const list = this.#ranks[rank];
    if (list === undefined) throw new RangeError(`no rank ${rank}`);
    this.#place[index] = list.length;
    this.#rank[index] = rank;
    list.push(index);
    this.#count += 1;
  }

  take(index: number): boolean {
    const place = this.#place[index] ?? -1;
    if (place < 0) return false;
    const list = this.#ranks[this.#rank[index] ?? 0] as number[];
    const last = list.pop();
    if (last !== undefined && last !== index) {
      list[place] = last;
      this.#place[last] = place;
    }
    this.#place[index] = -1;
    this.#count -= 1;
    return true;
  }

  /** At most `limit` chunks of one rank, each once, at random when there are more. */
  sample(rank: number, limit: number, random: () => number): number[] {
    const list = this.#ranks[rank] ?? [];
    const { length } = list;
    if (length === 0 || limit <= 0) return [];
    const start = Math.floor(random() * length);
    // Steps of one random width from a random place: as good as drawing lots, and nothing comes twice.
    const step = length <= 2 * limit ? 1 : 1 + Math.floor(random() * (Math.floor(length / limit) - 1));
    const drawn: number[] = [];
    for (let n = Math.min(limit, length), place = start; n > 0; n -= 1) {
      drawn.push(list[place] as number);
      place += step;
      if (place >= length) place -= length;
    }
    return drawn;
  }
}
