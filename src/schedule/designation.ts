/**
 * Who of a site fetches a chunk that no neighbour holds yet: highest-random-weight (rendezvous) hashing over the nodes
 * that take part (Thaler, Ravishankar 1998). All nodes that know the same participants agree without a word; of two
 * that know of each other never both think that a chunk is theirs, whoever else they know; when one leaves only its
 * own chunks move.
 */
export class Designation {
  readonly #self: string;
  /** Participants by number; this node is number 0. */
  readonly #ids: (string | undefined)[];
  readonly #seeds: number[];
  readonly #numbers: Map<string, number>;
  /** Number of the participant with the greatest weight for each chunk, and that weight. */
  readonly #owner: Uint16Array;
  readonly #weight: Uint32Array;

  /** This node alone takes part. @param size chunks of the set */
  constructor(size: number, self: string) {
    this.#self = self;
    this.#ids = [self];
    this.#seeds = [seedOf(self)];
    this.#numbers = new Map([[self, 0]]);
    this.#owner = new Uint16Array(size);
    this.#weight = new Uint32Array(size);
    for (let index = 0; index < size; index += 1) this.#weight[index] = weightOf(this.#seeds[0] ?? 0, index);
  }

  get participants(): readonly string[] {
    return [...this.#numbers.keys()];
  }

  has(id: string): boolean {
    return this.#numbers.has(id);
  }

  /** `moved` is called for each chunk that is this node's no longer. */
  add(id: string, moved: (index: number) => void): void {
    if (this.#numbers.has(id)) return;
    const vacant = this.#ids.indexOf(undefined);
    const number = vacant === -1 ? this.#ids.length : vacant;
    const seed = seedOf(id);
    this.#ids[number] = id;
    this.#seeds[number] = seed;
    this.#numbers.set(id, number);
    for (let index = 0; index < this.#owner.length; index += 1) {
      const weight = weightOf(seed, index);
      if (!this.#beats(number, weight, index)) continue;
      const mine = this.#owner[index] === 0;
      this.#owner[index] = number;
      this.#weight[index] = weight;
      if (mine) moved(index);
    }
  }

  /** `moved` is called for each chunk that is this node's now. */
  remove(id: string, moved: (index: number) => void): void {
    const number = this.#numbers.get(id);
    if (number === undefined || number === 0) return;
    this.#numbers.delete(id);
    this.#ids[number] = undefined;
    for (let index = 0; index < this.#owner.length; index += 1) {
      if (this.#owner[index] !== number) continue;
      this.#owner[index] = 0;
      this.#weight[index] = weightOf(this.#seeds[0] ?? 0, index);
      for (const other of this.#numbers.values()) {
        const weight = weightOf(this.#seeds[other] ?? 0, index);
        if (other === 0 || !this.#beats(other, weight, index)) continue;
        this.#owner[index] = other;
        this.#weight[index] = weight;
      }
      if (this.#owner[index] === 0) moved(index);
    }
  }

  /** True when this node fetches the chunk. */
  isOurs(index: number): boolean {
    return this.#owner[index] === 0;
  }

  /** The node that fetches the chunk. */
  fetcherOf(index: number): string {
    return this.#ids[this.#owner[index] ?? 0] ?? this.#self;
  }

  /** How many participants come before this node in the order in which they stand in for each other; 0 is the first. */
  rank(index: number): number {
    const own = weightOf(this.#seeds[0] ?? 0, index);
    let before = 0;
    for (const number of this.#numbers.values()) if (weightOf(this.#seeds[number] ?? 0, index) > own) before += 1;
    return before;
  }

  /** Equal weights (of ids with one hash) are told apart by the id, so that all nodes agree. */
  #beats(number: number, weight: number, index: number): boolean {
    const best = this.#weight[index] ?? 0;
    if (weight !== best) return weight > best;
    return (this.#ids[number] ?? '') > (this.#ids[this.#owner[index] ?? 0] ?? '');
  }
}

function weightOf(seed: number, index: number): number {
  return mix(seed ^ Math.imul(index + 1, 0x9e3779b1));
}

/** FNV-1a over the peer id's characters. */
function seedOf(peer: string): number {
  let hash = 0x811c9dc5;
  for (let n = 0; n < peer.length; n += 1) hash = Math.imul(hash ^ peer.charCodeAt(n), 0x01000193);
  return hash >>> 0;
}

/** The finaliser of MurmurHash3: every input bit reaches every output bit. */
function mix(value: number): number {
  let hash = value | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
