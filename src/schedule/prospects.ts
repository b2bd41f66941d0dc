import { Designation } from './designation.ts';
import type { HaveMap } from './have-map.ts';
import { Holder, type RemotePeer } from './holder.ts';
import { Shelf } from './shelf.ts';

/** What a peer said that is new. The caller has changed its map, and names only what really changed in it. */
export interface Heard {
  readonly added?: readonly number[];
  readonly lost?: readonly number[];
  readonly claimed?: readonly number[];
  readonly unclaimed?: readonly number[];
}

/** Ranks on the shelf: first copies that are ours to fetch, those of others, then by the number of neighbours. */
export const OURS = 0;
export const THEIRS = 1;
const RANKS = 34;

const NONE: readonly number[] = [];

/** What is still to be had of a set, who holds it, and who of the site fetches what no neighbour holds yet. */
export class Prospects {
  readonly holders = new Map<string, Holder>();
  /** Chunks that are wanted and not asked for. */
  readonly shelf: Shelf;
  readonly designation: Designation;
  /** Over all peers, how many chunks on our shelf each holds: 0 when nobody has to be looked at. */
  useful = 0;
  /** What a silent neighbour is given beyond the usual, milliseconds. */
  graceMs = 0;
  readonly #self: string;
  readonly #silentMs: number;
  /** How many neighbours that are no seeds hold each chunk. */
  readonly #spread: Uint16Array;
  /** Who says that it is fetching a chunk. */
  readonly #claimants = new Map<number, Holder[]>();
  #seeded = false;

  /** @param silentMs a neighbour that says nothing for this long fetches nothing for us */
  constructor(self: string, have: HaveMap, silentMs: number) {
    this.#self = self;
    this.#silentMs = silentMs;
    this.shelf = new Shelf(have.size, RANKS);
    this.#spread = new Uint16Array(have.size);
    this.designation = new Designation(have.size, self);
    for (let index = 0; index < have.size; index += 1) if (!have.has(index)) this.shelf.put(index, OURS);
  }

  join(remote: RemotePeer, now: number): Holder {
    const known = this.holders.get(remote.id);
    if (known !== undefined) {
      this.#count(known, -1);
      for (const index of known.claimed) this.#unclaimed(known, index);
    }
    const holder = new Holder(remote, now, known);
    this.holders.set(remote.id, holder);
    this.#count(holder, 1);
    this.designate(now);
    return holder;
  }

  leave(id: string, now: number): Holder | undefined {
    const holder = this.holders.get(id);
    if (holder === undefined) return undefined;
    this.#count(holder, -1);
    for (const index of holder.claimed) this.#unclaimed(holder, index);
    this.holders.delete(id);
    this.designate(now);
    return holder;
  }

  /** True when it opens a choice that there was not before. */
  heard(holder: Holder, news: Heard, now: number): boolean {
    const { added = NONE, lost = NONE, claimed = NONE, unclaimed = NONE } = news;
    const useful = holder.useful;
    holder.heardAt = now;
    if (holder.remote.near)
      for (const index of claimed) if (holder.claim(index, now)) push(this.#claimants, index, holder);
    for (const index of unclaimed) if (holder.unclaim(index)) this.#unclaimed(holder, index);
    for (const index of lost) if (!holder.forgive(index)) this.#changed(holder, index, -1);
    for (const index of added) {
      if (holder.gained(index)) this.#unclaimed(holder, index);
      this.#changed(holder, index, 1);
    }
    const other = this.#takesPart(holder, now) !== holder.takesPart;
    if (other) this.designate(now);
    return holder.useful > useful || unclaimed.length > 0 || lost.length > 0 || other;
  }

  /** It was asked for the chunk and does not have it. */
  missing(holder: Holder, index: number): void {
    if (!holder.holds(index)) return;
    this.#changed(holder, index, -1);
    holder.failed(index);
  }

  /** From now on it does not count as a holder… */
  rest(holder: Holder, now: number): void {
    if (!holder.resting) this.#count(holder, -1);
    holder.rest(now);
    this.designate(now);
  }

  /** …and now it does again. */
  recall(holder: Holder, now: number): void {
    holder.restUntil = Number.NEGATIVE_INFINITY;
    this.#count(holder, 1);
    this.designate(now);
  }

  put(index: number): void {
    if (this.shelf.has(index)) return;
    this.shelf.put(index, this.#rankOf(index));
    this.#countHolders(index, 1);
  }

  take(index: number): void {
    if (!this.shelf.take(index)) return;
    this.#countHolders(index, -1);
  }

  /** Peers with room for more, as their `room` says, and something to ask them for. @param share part of each window */
  open(now: number, share: number, hurry: boolean): Holder[] {
    const open: Holder[] = [];
    if (this.useful === 0) return open;
    for (const holder of this.holders.values()) {
      if (holder.useful === 0 || holder.suspect || holder.restUntil > now) continue;
      const { window } = holder.remote;
      if (hurry ? window.room <= 0 : !window.open) continue;
      holder.room = window.room * share;
      holder.taken = 0;
      open.push(holder);
    }
    return open;
  }

  /** How many neighbours that are no seeds hold the chunk. */
  spread(index: number): number {
    return this.#spread[index] ?? 0;
  }

  /** A neighbour holds everything from the start, so that nothing has to come from outside. */
  get seeded(): boolean {
    return this.#seeded;
  }

  get outside(): boolean {
    for (const { remote } of this.holders.values()) if (!remote.near && remote.map.count > 0) return true;
    return false;
  }

  /** Agrees with the neighbours on who fetches what: those who download it, can reach a source, and are alive. */
  designate(now: number): void {
    this.#seeded = false;
    for (const { remote, seed, resting, doubtful } of this.holders.values())
      this.#seeded ||= remote.near && seed && !resting && !doubtful;
    const moved = (index: number) => {
      if (this.shelf.has(index)) this.shelf.put(index, this.#rankOf(index));
    };
    const gone = new Set(this.designation.participants);
    gone.delete(this.#self);
    for (const holder of this.holders.values()) {
      holder.takesPart = this.#takesPart(holder, now);
      if (!holder.takesPart) continue;
      gone.delete(holder.id);
      this.designation.add(holder.id, moved);
    }
    for (const id of gone) this.designation.remove(id, moved);
  }

  #takesPart(holder: Holder, now: number): boolean {
    const { near, wants, outside } = holder.remote;
    return near && wants && (this.#seeded || outside) && holder.reliable && !this.isSilent(holder, now);
  }

  isSilent(holder: Holder, now: number): boolean {
    return now - holder.heardAt >= this.#silentMs + this.graceMs;
  }

  /** A neighbour says that it is fetching the chunk, and nothing speaks against it. @param lifetime milliseconds */
  isClaimed(index: number, now: number, lifetime: number): boolean {
    const claimants = this.#claimants.get(index);
    if (claimants === undefined) return false;
    for (const holder of claimants) if (!this.isSilent(holder, now) && holder.claims(index, now, lifetime)) return true;
    return false;
  }

  #unclaimed(holder: Holder, index: number): void {
    const claimants = this.#claimants.get(index);
    if (claimants === undefined) return;
    if (claimants.length > 1)
      this.#claimants.set(
        index,
        claimants.filter((one) => one !== holder),
      );
    else if (claimants[0] === holder) this.#claimants.delete(index);
  }

  #rankOf(index: number): number {
    const spread = this.spread(index);
    if (spread > 0) return Math.min(THEIRS + spread, RANKS - 1);
    return this.designation.isOurs(index) ? OURS : THEIRS;
  }

  /** A chunk came on the shelf or left it. */
  #countHolders(index: number, by: 1 | -1): void {
    for (const holder of this.holders.values()) {
      if (holder.resting || !holder.holds(index)) continue;
      holder.useful += by;
      this.useful += by;
    }
  }

  /** One peer holds a chunk more or less. */
  #changed(holder: Holder, index: number, by: 1 | -1): void {
    if (holder.resting) return;
    const wanted = this.shelf.has(index);
    if (wanted) {
      holder.useful += by;
      this.useful += by;
    }
    if (!holder.remote.near || holder.seed) return;
    this.#spread[index] = this.spread(index) + by;
    if (wanted) this.shelf.put(index, this.#rankOf(index));
  }

  /** Everything that a peer holds, at once. */
  #count(holder: Holder, by: 1 | -1): void {
    const { map } = holder.remote;
    if (holder.resting || map.count === 0) return;
    for (let index = 0; index < map.size; index += 1) if (holder.holds(index)) this.#changed(holder, index, by);
  }
}

function push(map: Map<number, Holder[]>, index: number, holder: Holder): void {
  const list = map.get(index);
  if (list) list.push(holder);
  else map.set(index, [holder]);
}
