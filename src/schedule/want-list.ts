/**
 * The chunks of a set that are neither held nor asked for. Adding, removing and starting a walk at a random place are
 * O(1), so that a pick from a hundred thousand chunks costs what it looks at and no more.
 */
export class WantList {
  readonly #items: number[] = [];
  readonly #place: Int32Array;

  /** An empty list over a set of `size` chunks. */
  constructor(size: number) {
    this.#place = new Int32Array(size).fill(-1);
  }

  get length(): number {
    return this.#items.length;
  }

  has(index: number): boolean {
    return (this.#place[index] ?? -1) >= 0;
  }

  add(index: number): void {
    if (this.has(index)) return;
    this.#place[index] = this.#items.length;
    this.#items.push(index);
  }

  delete(index: number): void {
    const place = this.#place[index] ?? -1;
    if (place < 0) return;
    const last = this.#items.pop();
    if (last !== undefined && last !== index) {
      this.#items[place] = last;
      this.#place[last] = place;
    }
    this.#place[index] = -1;
  }

  /** At most `limit` members, from a random place on, each once. */
  *walk(limit: number, random: () => number): Generator<number> {
    const length = this.#items.length;
    const start = Math.floor(random() * length);
    for (let step = 0; step < Math.min(limit, length); step += 1) {
      const index = this.#items[(start + step) % length];
      if (index !== undefined) yield index;
    }
  }
}
