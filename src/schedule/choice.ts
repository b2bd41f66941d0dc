import type { Holder } from './holder.ts';
import { OURS, type Prospects, THEIRS } from './prospects.ts';

export interface ChoiceDeps {
  readonly prospects: Prospects;
  readonly sizes: ArrayLike<number>;
  random(): number;
  /** A neighbour is fetching it already. */
  claimed(index: number): boolean;
  /** Its first copy is somebody else's to fetch: may we, now? The neighbours hear of it before. */
  help(index: number): boolean;
  /** Chunks that we said we would help with. */
  readonly offers: Iterable<number>;
  /** A rate cap may say no: then nothing more is asked of such peers in this round. What it admits is asked for. */
  admit(near: boolean, bytes: number): boolean;
  /** Called for each choice, in order; the chunk is off the shelf when it returns. */
  ask(index: number, holder: Holder): void;
}

export interface Limits {
  /** Bytes that may be asked for. */
  readonly budget: number;
  /** Bytes that may be asked of peers outside, unless a reader waits for them. */
  readonly outside: number;
  /** Chunks that may be asked for. */
  readonly count: number;
}

/** Chunks looked at for each one that the room is good for, and at least. */
const LOOKS_PER_CHUNK = 4;
const LEAST_LOOKS = 32;
/** A usual chunk. */
const CHUNK_BYTES = 128 * 1024;

/** Which chunk from whom next: one round of choosing among the peers that have room. */
export class Choice {
  readonly #deps: ChoiceDeps;
  /** Peers with room. */
  readonly #holders: readonly Holder[];
  /** Rate of the fastest peer outside, bytes per second. */
  #fastest = 0;
  #uplinkFull = false;
  #budget: number;
  #outside: number;
  #count: number;

  constructor(deps: ChoiceDeps, holders: readonly Holder[], { budget, outside, count }: Limits) {
    this.#deps = deps;
    this.#holders = holders;
    this.#budget = budget;
    this.#outside = outside;
    this.#count = count;
    for (const { remote } of holders) if (!remote.near) this.#fastest = Math.max(this.#fastest, remote.window.rate);
  }

  /** Chunks that readers wait for. `mayFetchFirst` says of each whether its first copy is ours to fetch now. */
  urgent(indexes: Iterable<number>, mayFetchFirst: (index: number) => boolean): void {
    const { prospects } = this.#deps;
    for (const index of indexes) {
      if (this.#over) return;
      if (!prospects.shelf.has(index)) continue;
      const near = this.#open((holder) => holder.remote.near);
      const spreaders = near.filter((holder) => !holder.seed);
      if (this.#take(index, spreaders)) continue;
      const first = prospects.spread(index) === 0;
      if (first && !mayFetchFirst(index)) continue;
      if (this.#take(index, near) || !first || prospects.seeded) continue;
      this.#take(
        index,
        this.#open((holder) => !holder.remote.near),
      );
    }
  }

  /** Chunks that only seeds, or only peers outside, hold. False when such a peer has room and we found nothing to ask. */
  firstCopies(): boolean {
    const { prospects, random } = this.#deps;
    const { shelf, designation, seeded } = prospects;
    const outside = !seeded && this.#outside > 0;
    const sources = this.#open(({ remote, seed }) => (remote.near ? seed : outside));
    if (sources.length === 0) return true;
    const before = this.#count;
    const looks = this.#looks(sources);
    // The lowest first; others who help take the highest, so that they meet at the very end only.
    const ours = shelf.sample(OURS, looks, random).sort((a, b) => a - b);
    this.#takeAll(ours, sources);
    if (ours.length < shelf.countOf(OURS)) return this.#count < before;
    // Nothing of ours is left: help the others, first with what we are the next to stand in for.
    const theirs = shelf
      .sample(THEIRS, looks, random)
      .map((index) => ({ index, rank: designation.rank(index) }))
      .sort((a, b) => a.rank - b.rank || b.index - a.index)
      .map(({ index }) => index);
    const { offers, help } = this.#deps;
    this.#takeAll([...offers, ...theirs], sources, help);
    return this.#count < before;
  }

  /** Chunks that neighbours hold, the rarest first. */
  copies(): void {
    const { shelf } = this.#deps.prospects;
    const spreaders = this.#open(({ remote, seed }) => remote.near && !seed);
    if (spreaders.length === 0) return;
    let looks = this.#looks(spreaders);
    for (let rank = THEIRS + 1; rank < shelf.ranks; rank += 1) {
      if (shelf.countOf(rank) === 0) continue;
      for (const index of shelf.sample(rank, looks, this.#deps.random)) {
        if (this.#over || spreaders.length === 0) return;
        looks -= 1;
        const holder = this.#take(index, spreaders);
        if (holder !== undefined && holder.room <= 0) spreaders.splice(spreaders.indexOf(holder), 1);
      }
    }
  }

  get #over(): boolean {
    return this.#budget <= 0 || this.#count <= 0;
  }

  #open(which: (holder: Holder) => boolean): Holder[] {
    return this.#holders.filter((holder) => holder.room > 0 && which(holder));
  }

  #looks(holders: readonly Holder[]): number {
    const room = holders.reduce((sum, holder) => sum + holder.room, 0);
    return LEAST_LOOKS + LOOKS_PER_CHUNK * Math.ceil(Math.min(room, this.#budget) / CHUNK_BYTES);
  }

  #takeAll(indexes: readonly number[], holders: Holder[], may?: (index: number) => boolean): void {
    for (const index of indexes) {
      if (this.#over || holders.length === 0) return;
      if (this.#deps.claimed(index)) continue;
      if (may !== undefined && (this.#best(holders, index) === undefined || !may(index))) continue;
      const holder = this.#take(index, holders);
      if (holder !== undefined && this.#isSpent(holder))
        holders.splice(0, holders.length, ...holders.filter((one) => !this.#isSpent(one)));
    }
  }

  #isSpent({ room, remote }: Holder): boolean {
    return room <= 0 || (!remote.near && this.#outside <= 0);
  }

  #take(index: number, holders: readonly Holder[]): Holder | undefined {
    const holder = this.#best(holders, index);
    if (holder === undefined) return undefined;
    const size = this.#deps.sizes[index] ?? 0;
    const { near } = holder.remote;
    if (!this.#deps.admit(near, size)) {
      if (near) this.#count = 0;
      this.#uplinkFull = true;
      return undefined;
    }
    holder.room -= size;
    holder.taken += size;
    if (!near) this.#outside -= size;
    this.#budget -= size;
    this.#count -= 1;
    this.#deps.ask(index, holder);
    return holder;
  }

  /**
   * Of those that hold the chunk and do not owe it already: a neighbour with the most of its window free, or else the
   * peer outside that will answer first by its rate. Ties at random.
   */
  #best(holders: readonly Holder[], index: number): Holder | undefined {
    let best: Holder | undefined;
    let most = 0;
    let ties = 0;
    for (const holder of holders) {
      const { near } = holder.remote;
      if (holder.room <= 0 || (this.#uplinkFull && !near)) continue;
      const worth = near ? holder.room / holder.remote.window.target : -this.#seconds(holder, index);
      if ((best && worth < most) || !holder.holds(index) || holder.flights.has(index)) continue;
      ties = best && worth === most ? ties + 1 : 1;
      most = worth;
      if (ties === 1 || this.#deps.random() * ties < 1) best = holder;
    }
    return best;
  }

  /** When a peer outside will have sent the chunk. One whose rate nobody knows is taken for half as fast as the best. */
  #seconds({ taken, remote: { window } }: Holder, index: number): number {
    const queued = window.outstanding + taken + (this.#deps.sizes[index] ?? 0);
    return queued / (window.rate || this.#fastest / 2 || 1);
  }
}
