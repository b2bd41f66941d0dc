import type { HaveMap } from './have-map.ts';
import type { Window } from './window.ts';

/**
 * A peer as the caller knows it. The core reads it and never changes it, so that its parts may be shared: the window by
 * all sets, the map (in the simulator) by all nodes that heard the same. The caller changes it, then says `heard`.
 */
export interface RemotePeer {
  readonly id: string;
  /** Of our site: bytes from it cost no uplink. */
  readonly near: boolean;
  /** What it says that it holds. */
  readonly map: HaveMap;
  /** It is downloading the set. */
  readonly wants: boolean;
  /** It sees a holder outside its site. */
  readonly outside: boolean;
  readonly window: Window;
}

/** Claims of one peer that count at a time: more than any window holds. */
const MAX_CLAIMS = 1024;
/** Claims let lapse, beyond those kept, after which a peer's word is worth nothing. */
const MAX_LAPSED = 16;
/** Chunks that it said it had and had not, since it last gave one, after which it is left in peace for a while. */
const MAX_MISSES = 16;
/** First rest of a peer that owed us something and fell silent, milliseconds; doubled each time, up to the longest. */
const REST_MS = 1_000;
const LONGEST_REST_MS = 60_000;

/** A peer as one download sees it: what it can give us, what it owes us, what it says it is fetching itself. */
export class Holder {
  readonly remote: RemotePeer;
  /** It was complete when we met it. Its uplink is the scarce one: it should send each chunk once before any twice. */
  readonly seed: boolean;
  /** How many chunks that are on our shelf it holds. */
  useful = 0;
  /** Bytes that may still be asked of it in the plan that is being made. */
  room = 0;
  /** Bytes that were asked of it in that plan. */
  taken = 0;
  /** First copies are shared with it. */
  takesPart = false;
  /** Chunks that we asked it for, and when. */
  readonly flights: Map<number, number>;
  /** When it last said anything, of this set. */
  heardAt: number;
  /** What it owes us has been put on the shelf again. */
  suspect: boolean;
  /** It gave us nothing for so long that it does not count as a holder until then. */
  restUntil: number;
  #rest: number;
  /** What it said that it had and did not give. Most peers have no such set, and no claims: both are made when needed. */
  #missing: Set<number> | undefined;
  #misses = 0;
  #claims: Map<number, number> | undefined;
  #kept: number;
  #lapsed: number;

  /** @param before the same peer, as it was before it said everything anew */
  constructor(remote: RemotePeer, now: number, before?: Holder) {
    this.remote = remote;
    this.seed = before?.seed ?? remote.map.complete;
    this.heardAt = now;
    this.flights = before?.flights ?? new Map();
    this.suspect = before?.suspect ?? false;
    this.takesPart = before?.takesPart ?? false;
    this.restUntil = before?.restUntil ?? Number.NEGATIVE_INFINITY;
    this.#rest = before ? before.#rest : REST_MS;
    this.#kept = before ? before.#kept : 0;
    this.#lapsed = before ? before.#lapsed : 0;
  }

  get id(): string {
    return this.remote.id;
  }

  get resting(): boolean {
    return this.restUntil > Number.NEGATIVE_INFINITY;
  }

  holds(index: number): boolean {
    return this.remote.map.has(index) && !this.#missing?.has(index);
  }

  /** It said that it has the chunk: what it failed to give before, it may have now. True when it had claimed it. */
  gained(index: number): boolean {
    this.#missing?.delete(index);
    if (!this.#claims?.delete(index)) return false;
    this.#kept += 1;
    return true;
  }

  /** It said that it has the chunk, and then that it has not. */
  failed(index: number): void {
    this.#missing ??= new Set();
    this.#missing.add(index);
    this.#misses += 1;
  }

  /** It says that it does not have the chunk. True when we knew, because it failed to give it. */
  forgive(index: number): boolean {
    return this.#missing?.delete(index) === true;
  }

  /** It has not what it says that it has. */
  get empty(): boolean {
    return this.#misses > MAX_MISSES;
  }

  /** Bytes came from it. */
  proved(): void {
    this.#rest = REST_MS;
    this.#misses = 0;
  }

  rest(now: number): void {
    this.restUntil = now + this.#rest;
    this.#rest = Math.min(LONGEST_REST_MS, this.#rest * 2);
    this.#misses = 0;
  }

  /** It had to rest and has given nothing since: nobody else is kept waiting because of what it says. */
  get doubtful(): boolean {
    return this.#rest > REST_MS;
  }

  /** What it says that it is fetching. */
  get claimed(): Iterable<number> {
    return this.#claims?.keys() ?? [];
  }

  /** It says that it is fetching the chunk from a seed or from outside. False when that is no news, or too much. */
  claim(index: number, now: number): boolean {
    this.#claims ??= new Map();
    if (this.#claims.size >= MAX_CLAIMS || this.#claims.has(index)) return false;
    this.#claims.set(index, now);
    return true;
  }

  /** False when it had not claimed it. */
  unclaim(index: number): boolean {
    return this.#claims?.delete(index) === true;
  }

  /** True when it said within `lifetime` milliseconds that it is fetching the chunk, and keeps such promises. */
  claims(index: number, now: number, lifetime: number): boolean {
    const since = this.#claims?.get(index);
    if (since === undefined || !this.reliable) return false;
    if (now - since < lifetime) return true;
    // The entry stays, so that saying it again does not make it younger.
    if (Number.isFinite(since)) {
      this.#claims?.set(index, Number.NEGATIVE_INFINITY);
      this.#lapsed += 1;
    }
    return false;
  }

  /** It does what it says. */
  get reliable(): boolean {
    return this.#lapsed <= MAX_LAPSED + this.#kept;
  }
}
