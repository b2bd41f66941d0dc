const float = new Float64Array(1);
const words = new Uint32Array(float.buffer);

/** A number for a whole sequence of events: two runs that differ in one event, or in its time, differ in it. */
export class Digest {
  #low = 0x811c9dc5;
  #high = 0x9e3779b1;

  add(time: number, kind: number, a: number, b: number): void {
    float[0] = time;
    this.#low = Math.imul(this.#low ^ (words[0] as number), 0x01000193) ^ (words[1] as number);
    this.#high = Math.imul(this.#high ^ this.#low ^ Math.imul(a, 0x85ebca6b), 0xc2b2ae35) ^ kind ^ (b << 8);
    this.#low ^= this.#high >>> 15;
  }

  /** 16 hexadecimal digits. */
  toString(): string {
    return [this.#high, this.#low].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
  }

  /** One of several sequences, in their order. */
  static of(digests: readonly string[]): string {
    const all = new Digest();
    for (const digest of digests)
      all.add(0, 0, Number.parseInt(digest.slice(0, 8), 16), Number.parseInt(digest.slice(8), 16));
    return String(all);
  }
}
