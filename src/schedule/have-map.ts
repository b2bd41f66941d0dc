/**
 * Which chunks of a set somebody holds: one bit per chunk, in the set's order, least significant bit first
 * (chunk 0 is bit 0 of byte 0).
 */
export class HaveMap {
  /** Number of chunks in the set. */
  readonly size: number;
  #bits: Uint8Array;
  #count = 0;

  constructor(size: number) {
    this.size = size;
    this.#bits = new Uint8Array(Math.ceil(size / 8));
  }

  /** Bits beyond `size` are ignored, missing bytes count as zero. */
  static from(bytes: Uint8Array, size: number): HaveMap {
    const map = new HaveMap(size);
    map.#bits.set(bytes.subarray(0, map.#bits.length));
    const spare = map.#bits.length * 8 - size;
    if (spare > 0) {
      const last = map.#bits.length - 1;
      map.#bits[last] = (map.#bits[last] ?? 0) & (0xff >> spare);
    }
    for (const byte of map.#bits) map.#count += ones(byte);
    return map;
  }

  static full(size: number): HaveMap {
    return HaveMap.from(new Uint8Array(Math.ceil(size / 8)).fill(0xff), size);
  }

  get count(): number {
    return this.#count;
  }

  /** How many of the set are not held. */
  get missing(): number {
    return this.size - this.#count;
  }

  get complete(): boolean {
    return this.#count === this.size;
  }

  has(index: number): boolean {
    return ((this.#bits[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;
  }

  /** False when the bit was set already, or lies outside the set. */
  add(index: number): boolean {
    if (index < 0 || index >= this.size || this.has(index)) return false;
    this.#bits[index >> 3] = (this.#bits[index >> 3] ?? 0) | (1 << (index & 7));
    this.#count += 1;
    return true;
  }

  delete(index: number): boolean {
    if (index < 0 || index >= this.size || !this.has(index)) return false;
    this.#bits[index >> 3] = (this.#bits[index >> 3] ?? 0) & ~(1 << (index & 7));
    this.#count -= 1;
    return true;
  }

  /** A copy of the bits, ready for the wire. */
  bytes(): Uint8Array {
    return this.#bits.slice();
  }
}

function ones(byte: number): number {
  let count = 0;
  for (let rest = byte; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}
