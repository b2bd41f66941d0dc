/**
 * Who of a site fetches a chunk that no neighbour holds yet: highest-random-weight (rendezvous) hashing over the nodes
 * that take part (Thaler, Ravishankar 1998). All nodes that know the same participants agree without a word, the
 * shares are even, and when one leaves only its own chunks move.
 */
export class Designation {
  readonly #fetchers: readonly string[];
  readonly #seeds: readonly number[];

  constructor(fetchers: Iterable<string>) {
    this.#fetchers = [...new Set(fetchers)].sort();
    this.#seeds = this.#fetchers.map(seedOf);
  }

  get fetchers(): readonly string[] {
    return this.#fetchers;
  }

  /** The node that fetches chunk `index` of the set; undefined when nobody takes part. */
  fetcherOf(index: number): string | undefined {
    let best: string | undefined;
    let weight = -1;
    for (let n = 0; n < this.#seeds.length; n += 1) {
      const own = mix((this.#seeds[n] ?? 0) ^ Math.imul(index + 1, 0x9e3779b1));
      if (own <= weight) continue;
      weight = own;
      best = this.#fetchers[n];
    }
    return best;
  }

  /** True when both stand for the same participants. */
  equals(other: Designation): boolean {
    return this.#fetchers.length === other.#fetchers.length && this.#fetchers.every((f, n) => f === other.#fetchers[n]);
  }
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
