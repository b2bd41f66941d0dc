import { Choice } from './choice.ts';
import { Claims } from './claims.ts';
import { type Errand, Flights } from './flights.ts';
import type { HaveMap } from './have-map.ts';
import type { Holder, RemotePeer } from './holder.ts';
import { type Heard, OURS, Prospects } from './prospects.ts';
import { WATCH_DEFAULTS, Watch, type WatchOptions } from './watch.ts';

export interface Plan {
  /** What to ask for. The caller tells the peer's window: `asked` now, later `delivered` or `released`. */
  readonly asks: readonly Errand[];
  /** Requests that are given up: no `ended` is expected, and bytes may come nevertheless. The caller releases the window. */
  readonly cancels: readonly Errand[];
  /** Chunks that we are fetching from a seed or from outside from now on. */
  readonly claimed: readonly number[];
  /**
   * The neighbours should hear of these claims at once: they are not ours by designation, or so few of ours are left
   * that others will soon help with them.
   */
  readonly urgentNews: boolean;
  /** Claims given up without the chunk. */
  readonly unclaimed: readonly number[];
  /** Peers that are given up for a while. */
  readonly stalled: readonly string[];
}

export interface DownloadDeps {
  /** Our name, as the neighbours know it. */
  readonly self: string;
  /** Plain bytes of each chunk. */
  readonly sizes: ArrayLike<number>;
  /** What we hold. The caller changes it, then says `stored` or `lost`. */
  readonly have: HaveMap;
  /** Between 0 and 1. */
  random(): number;
}

export interface DownloadOptions extends WatchOptions {
  /** A reader waits this long for a chunk's designated fetcher before we fetch it ourselves, milliseconds. @default 150 */
  readonly urgentMs: number;
}

export const DOWNLOAD_DEFAULTS: DownloadOptions = {
  ...WATCH_DEFAULTS,
  urgentMs: 150,
};

export interface PlanOptions {
  /** Bytes that may be asked for. */
  readonly budget: number;
  /** Our part of each peer's window. @default 1 */
  readonly share?: number;
  /** How late this process has been lately, milliseconds: a busy machine makes nobody a suspect. @default 0 */
  readonly lateMs?: number;
  /** Takes room for bytes from a peer, near or outside, under a rate cap; false when there is none. @default always */
  readonly admit?: (near: boolean, bytes: number) => boolean;
  /** First copies of others that we may mean to fetch at a time: no more than the caps let us soon. @default 6 */
  readonly maxOffers?: number;
  /** The neighbours have said what they hold and want, so that first copies may be fetched. @default true */
  readonly settled?: boolean;
}

/** Most requests of one plan. */
const MAX_ASKS = 256;
/** Everybody is given so many times our own lateness. */
const LATE_TIMES = 3;
/** First copies of ours that are left when the neighbours, having none left, may be about to help. */
const FEW = 64;
/** After a look at the first copies that found none for us, the next one is so much later, milliseconds. */
const LOOK_AGAIN_MS = 40;
/** Claims that did not become a chunk are forgotten after so many of the times that such a chunk takes us… */
const CLAIM_TIMES = 4;
/** …within these bounds, milliseconds. */
const CLAIM_MS = [10_000, 15_000] as const;

/**
 * One node's download of one set: what is asked of whom, and when that is given up. It decides alone by what it is
 * told: no I/O, no clock, no randomness of its own. Times are milliseconds of any monotonic clock.
 *
 * A chunk that a neighbour holds comes from a neighbour, the rarest first. One that only seeds hold (neighbours that
 * were complete from the start), or only peers outside the site, is fetched by its designated node alone, so that it
 * leaves the seed, or crosses the uplink, once. Neighbours tell each other what they are fetching in this way; a claim
 * holds while its owner is heard at least every `silentMs`.
 */
export class Download {
  readonly #deps: DownloadDeps;
  readonly #options: DownloadOptions;
  readonly #prospects: Prospects;
  readonly #flights: Flights;
  readonly #storing = new Set<number>();
  readonly #urgent = new Map<number, number>();
  readonly #claims = new Claims();
  #lookAt = 0;
  readonly #watching: Watch;
  /** A neighbour says that it is fetching what is ours to fetch and fetched by us: it should hear so. */
  #contested = false;
  /** A running mean of what a first copy takes us, milliseconds. */
  #firstCopyMs: number | undefined;
  #everything = true;
  /** It is wanted, and no neighbour holds it. */
  readonly #unfetched = (index: number) => this.#prospects.shelf.has(index) && this.#prospects.spread(index) === 0;

  constructor(deps: DownloadDeps, options: Partial<DownloadOptions> = {}) {
    this.#deps = deps;
    this.#options = { ...DOWNLOAD_DEFAULTS, ...options };
    this.#watching = new Watch(this.#options);
    this.#flights = new Flights(deps.sizes);
    this.#prospects = new Prospects(deps.self, deps.have, this.#options.silentMs);
  }

  /** False: only urgent chunks are asked for. */
  set everything(all: boolean) {
    this.#everything = all;
  }

  /** Chunks asked for that have not come. */
  get inFlight(): number {
    return this.#flights.count;
  }

  /** Chunks that are neither held, nor asked for, nor on their way into the store. */
  get wanted(): number {
    return this.#prospects.shelf.count;
  }

  /** What we are fetching from a seed or from outside. */
  get claims(): ReadonlySet<number> {
    return this.#claims.all;
  }

  /** We see a holder outside our site. */
  get outside(): boolean {
    return this.#prospects.outside;
  }

  /** There is more to get, none of it is on its way, and nobody that we see and trust holds any of it. */
  get stranded(): boolean {
    return this.wanted > 0 && this.inFlight === 0 && this.#prospects.useful === 0;
  }

  /** How many neighbours hold the chunk, not counting those that held everything from the start. */
  spread(index: number): number {
    return this.#prospects.spread(index);
  }

  /** Somebody that we see holds the chunk, or it is on its way already. */
  attainable(index: number): boolean {
    if (this.#flights.has(index) || this.#storing.has(index)) return true;
    for (const holder of this.#prospects.holders.values()) if (holder.holds(index)) return true;
    return false;
  }

  /** A peer that can be asked, or one that says everything about the set anew. */
  join(remote: RemotePeer, now: number): void {
    this.#watching.changed(this.#prospects.join(remote, now));
  }

  leave(id: string, now: number): void {
    const holder = this.#prospects.leave(id, now);
    for (const index of [...(holder?.flights.keys() ?? [])]) this.#land(index, holder as Holder);
  }

  /**
   * The peer said something: what is new in it, and that it lives. Its `wants` and `outside` may have changed, too. True
   * when it may be worth a plan now.
   */
  heard(id: string, news: Heard, now: number): boolean {
    const holder = this.#prospects.holders.get(id);
    if (holder === undefined) return false;
    let opened = this.#prospects.heard(holder, news, now);
    for (const index of news.claimed ?? []) {
      if (!this.#claims.all.has(index) || !holder.claims(index, now, this.#claimLifetime)) continue;
      if (!this.#yield(holder, index)) this.#contested = true;
      opened = true;
    }
    if (opened) this.#watching.changed(holder);
    return opened;
  }

  /** Verified bytes came. False when the chunk is of no use: it is held, or on its way into the store. */
  delivered(id: string, index: number, now: number): boolean {
    const holder = this.#prospects.holders.get(id);
    if (holder !== undefined) {
      const took = this.#flights.arrived(index, holder, now);
      if (isSource(holder)) {
        this.#lookAt = now;
        if (took !== undefined) this.#tookFirstCopy(took);
      }
      holder.proved();
      this.#trust(holder);
      // Late, and not gone.
      if (holder.resting) this.#prospects.recall(holder, now);
    }
    if (this.#deps.have.has(index) || this.#storing.has(index)) return false;
    this.#flights.cancelAll(index);
    this.#prospects.take(index);
    this.#storing.add(index);
    return true;
  }

  /** A request ended without useful bytes. */
  ended(id: string, index: number, reason: 'missing' | 'busy' | 'cancelled' | 'corrupt' | 'closed'): void {
    const holder = this.#prospects.holders.get(id);
    if (holder === undefined) return;
    if (reason === 'missing') this.#prospects.missing(holder, index);
    this.#watching.changed(holder);
    this.#land(index, holder);
  }

  /** It is in the store, whoever put it there. */
  stored(index: number): void {
    this.#storing.delete(index);
    this.#urgent.delete(index);
    this.#claims.kept(index);
    this.#prospects.take(index);
    this.#flights.cancelAll(index);
  }

  /** The store does not have it any more, or could not keep it: it is wanted again. */
  lost(index: number): void {
    this.#storing.delete(index);
    this.#want(index);
  }

  /** A reader waits for the chunk… */
  urge(index: number, now: number): void {
    if (!this.#urgent.has(index)) this.#urgent.set(index, now);
  }

  /** …and no longer. */
  calm(index: number): void {
    this.#urgent.delete(index);
  }

  /** Gives everything up; the plan that says so is the last. */
  close(): Plan {
    for (const index of this.#flights.everything()) this.#flights.cancelAll(index);
    for (const index of [...this.#claims.all]) this.#claims.drop(index);
    return this.#result([]);
  }

  /** True when there is nothing to do now: a plan would be empty. */
  idle(now: number): boolean {
    if (this.#prospects.useful > 0 || this.#contested || this.#watching.isDue(now)) return false;
    return this.#flights.told && this.#claims.told;
  }

  /** What to do now. */
  plan(now: number, { budget, share = 1, settled = true, lateMs = 0, admit = always, maxOffers }: PlanOptions): Plan {
    this.#watching.graceMs = LATE_TIMES * lateMs;
    this.#prospects.graceMs = LATE_TIMES * lateMs;
    const stalled = this.#watching.isDue(now) ? this.#watch(now) : [];
    this.#claims.takeBack(now, this.#unfetched);
    const open = budget > 0 ? this.#prospects.open(now, share, this.#urgent.size > 0) : [];
    if (open.length === 0) return this.#result(stalled);
    const lifetime = this.#claimLifetime;
    const claimed = (index: number) => this.#prospects.isClaimed(index, now, lifetime);
    const ask = (index: number, holder: Holder) => this.#fly(index, holder, now);
    const deps = {
      ...this.#deps,
      prospects: this.#prospects,
      claimed,
      help: (index: number) => this.#claims.offer(index, now, maxOffers),
      offers: this.#claims.offers,
      admit,
      ask,
    };
    const outside = this.#flights.roomOutside(this.#prospects.holders.values(), now) * share;
    const choice = new Choice(deps, open, { budget, outside, count: MAX_ASKS });
    if (this.#urgent.size > 0) {
      const overdue = (index: number) => now - (this.#urgent.get(index) ?? now) >= this.#options.urgentMs;
      const ours = (index: number) => this.#prospects.designation.isOurs(index) || overdue(index);
      choice.urgent([...this.#urgent.keys()], (index) => settled && ours(index) && !claimed(index));
    }
    if (this.#everything && settled && now >= this.#lookAt && !choice.firstCopies()) this.#lookAt = now + LOOK_AGAIN_MS;
    if (this.#everything) choice.copies();
    return this.#result(stalled);
  }

  /** When to plan again if nothing happens before; Infinity when only news can help. */
  wakeAt(now: number): number {
    const { holders } = this.#prospects;
    const due = this.#watching.next(now, holders.values());
    let at = Math.min(due, this.#claims.dueAt(now), this.#flights.roomAt(holders.values(), now));
    if (this.#lookAt > now) at = Math.min(at, this.#lookAt);
    for (const since of this.#urgent.values()) {
      const overdue = since + this.#options.urgentMs;
      if (overdue > now) at = Math.min(at, overdue);
    }
    return Math.max(at, now + 1);
  }

  /** Suspects the silent, gives up the dead, lets the rested come back. Returns those given up. */
  #watch(now: number): string[] {
    const stalled: string[] = [];
    let silence = false;
    for (const holder of this.#prospects.holders.values()) {
      if (holder.resting && now >= holder.restUntil) this.#prospects.recall(holder, now);
      if (holder.suspect && this.#watching.suspectAt(holder) > now) this.#trust(holder);
      if (holder.empty || (holder.flights.size > 0 && now >= this.#watching.giveUpAt(holder))) {
        this.#giveUp(holder, now);
        stalled.push(holder.id);
      } else if (holder.flights.size > 0 && now >= this.#watching.suspectAt(holder)) this.#suspect(holder);
      silence ||= holder.takesPart && (!holder.reliable || this.#prospects.isSilent(holder, now));
    }
    if (silence) this.#prospects.designate(now);
    return stalled;
  }

  /** What it owes us may be asked of others, too. */
  #suspect(holder: Holder): void {
    if (holder.suspect) return;
    holder.suspect = true;
    for (const index of holder.flights.keys()) if (this.#flights.countOf(index) === 1) this.#want(index);
  }

  #trust(holder: Holder): void {
    if (!holder.suspect) return;
    holder.suspect = false;
    this.#watching.changed(holder);
    for (const index of holder.flights.keys()) this.#prospects.take(index);
  }

  /** Takes back what it owes us; for a while it does not count as a holder. */
  #giveUp(holder: Holder, now: number): void {
    holder.suspect = false;
    for (const index of [...holder.flights.keys()]) {
      this.#flights.cancel(index, holder);
      this.#unfly(index);
    }
    this.#prospects.rest(holder, now);
  }

  get #claimLifetime(): number {
    const [least, most] = CLAIM_MS;
    return this.#firstCopyMs === undefined ? most : Math.min(most, Math.max(least, CLAIM_TIMES * this.#firstCopyMs));
  }

  /** A neighbour is fetching the same: the designated one goes on, else the one with the smaller id. */
  #yield(holder: Holder, index: number): boolean {
    const fetcher = this.#prospects.designation.fetcherOf(index);
    const { self } = this.#deps;
    if (!holder.remote.near || fetcher === self || (fetcher !== holder.id && self < holder.id)) return false;
    this.#flights.cancelAll(index);
    this.#claims.drop(index);
    this.#want(index);
    return true;
  }

  #tookFirstCopy(delay: number): void {
    this.#firstCopyMs = this.#firstCopyMs === undefined ? delay : this.#firstCopyMs * 0.8 + delay * 0.2;
  }

  #want(index: number): void {
    if (!this.#deps.have.has(index) && !this.#storing.has(index)) this.#prospects.put(index);
  }

  #fly(index: number, holder: Holder, now: number): void {
    this.#prospects.take(index);
    this.#flights.start(index, holder, now);
    this.#claims.asked(index);
    this.#watching.changed(holder);
    if (isSource(holder)) this.#claims.add(index);
  }

  #land(index: number, holder: Holder): void {
    if (this.#flights.end(index, holder)) this.#unfly(index);
  }

  /** A flight brought nothing: unless another one may, the chunk is wanted again. */
  #unfly(index: number): void {
    if (this.#flights.has(index)) return;
    this.#claims.drop(index);
    this.#want(index);
  }

  #result(stalled: readonly string[]): Plan {
    const { claimed, unclaimed } = this.#claims.news();
    const { designation, shelf } = this.#prospects;
    const foreign = claimed.some((index) => !designation.isOurs(index));
    const urgentNews = foreign || this.#contested || (claimed.length > 0 && shelf.countOf(OURS) < FEW);
    this.#contested = false;
    return { ...this.#flights.errands(), claimed, unclaimed, urgentNews, stalled };
  }
}

const always = () => true;

function isSource({ remote, seed }: Holder): boolean {
  return !remote.near || seed;
}
