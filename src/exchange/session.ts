import type { ChunkStore, Encoded } from '../content/chunk-source.ts';
import { Designation } from '../schedule/designation.ts';
import { type Pick, pick, type Uploader } from '../schedule/pick.ts';
import { WantList } from '../schedule/want-list.ts';
import type { EndReason, Link, PendingRequest, RequestOwner } from './link.ts';
import type { LocalSet } from './local-set.ts';

export interface DownloadReport {
  /** Plain bytes stored by this download. */
  readonly bytes: number;
  readonly chunks: number;
  readonly bytesByPeer: ReadonlyMap<string, number>;
  /** Bytes that arrived although we had them. */
  readonly duplicateBytes: number;
  readonly seconds: number;
}

export interface SessionDeps {
  readonly self: string;
  readonly store: ChunkStore;
  /** Links that may be used now. */
  links(): Link[];
  /** All neighbours that we expect have said whether they hold or want the set, or waiting for them is over. */
  settled(session: Session): boolean;
  /** Bytes that may still be asked for, over all sessions. */
  budget(): number;
  /** These bytes are on their way into the store… */
  storing(bytes: Uint8Array): void;
  /** …and no longer. Only a buffer that was `kept` may be used again: a store that fails may still hold it. */
  settledStore(bytes: Uint8Array, kept: boolean, encoded?: Encoded): void;
  /** There is news for the peers, or a reason to plan again. */
  changed(local: LocalSet): void;
  /** Tells the neighbours at once what we are fetching, before they ask for the same. */
  claimed(local: LocalSet): void;
  /** No peer that we know holds what we want. */
  seek(local: LocalSet): void;
  random(): number;
}

interface Flight {
  readonly link: Link;
  readonly request: PendingRequest;
}

interface Urgent {
  readonly since: number;
  readonly settle: PromiseWithResolvers<boolean>;
  waiters: number;
}

/** Most requests made in one planning. */
const PICKS = 256;
/** A reader waits this long for a chunk's designated fetcher before we fetch it ourselves, milliseconds. */
const URGENT_PATIENCE_MS = 300;
/** A reader is told that nobody has the chunk after this long, milliseconds. */
const NO_SOURCE_MS = 2_000;
/** A neighbour that owes us a chunk for this long is doubled by another in the end game, milliseconds. */
const END_GAME_MS = 1_000;

/** Getting one set: shared by everyone here who wants it, whole or in parts. Ends when the last one leaves. */
export class Session implements RequestOwner {
  readonly local: LocalSet;
  readonly priority: 'foreground' | 'background';
  readonly startedAt = performance.now();
  readonly done = Promise.withResolvers<void>();
  /** Set by the exchange, once. */
  isSettled = false;
  readonly #deps: SessionDeps;
  readonly #wanted: WantList;
  readonly #flights = new Map<number, Flight[]>();
  readonly #storing = new Set<number>();
  readonly #urgent = new Map<number, Urgent>();
  readonly #bytesByPeer = new Map<string, number>();
  readonly #listeners = new Set<(bytes: number) => void>();
  #whole = 0;
  #bytes = 0;
  #chunks = 0;
  #duplicateBytes = 0;
  #designations: Readonly<Record<'outside' | 'seed', Designation>>;
  #closed = false;

  constructor(deps: SessionDeps, local: LocalSet, priority: 'foreground' | 'background') {
    this.#deps = deps;
    this.local = local;
    this.priority = priority;
    this.#wanted = new WantList(local.set.chunks.length);
    this.#designations = { outside: new Designation([deps.self]), seed: new Designation([deps.self]) };
    this.done.promise.catch(() => undefined);
    for (let index = 0; index < local.set.chunks.length; index += 1)
      if (!local.have.has(index)) this.#wanted.add(index);
  }

  /** Readers and downloads that use it. */
  get users(): number {
    return this.#whole + this.#urgent.size;
  }

  get outstanding(): number {
    return this.#flights.size;
  }

  join(onStored: (bytes: number) => void): void {
    this.#whole += 1;
    this.#listeners.add(onStored);
    this.#finishIfComplete();
    this.#deps.changed(this.local);
  }

  leave(onStored: (bytes: number) => void): void {
    this.#whole -= 1;
    this.#listeners.delete(onStored);
  }

  /** True once chunk `index` is in the store; false when nobody has it. */
  async get(index: number, signal: AbortSignal): Promise<boolean> {
    if (this.local.have.has(index)) return true;
    const urgent = this.#urgent.get(index) ?? {
      since: performance.now(),
      settle: Promise.withResolvers<boolean>(),
      waiters: 0,
    };
    this.#urgent.set(index, urgent);
    urgent.waiters += 1;
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    this.#deps.changed(this.local);
    try {
      return await Promise.race([urgent.settle.promise, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', abort);
      urgent.waiters -= 1;
      if (urgent.waiters === 0 && this.#urgent.get(index) === urgent) this.#urgent.delete(index);
    }
  }

  report(since: number): DownloadReport {
    return {
      bytes: this.#bytes,
      chunks: this.#chunks,
      bytesByPeer: new Map(this.#bytesByPeer),
      duplicateBytes: this.#duplicateBytes,
      seconds: (performance.now() - since) / 1000,
    };
  }

  /** Something else put the chunk into the store. */
  stored(index: number): void {
    this.#wanted.delete(index);
    this.#dropFlights(index);
    this.local.stored(index);
    this.#urgent.get(index)?.settle.resolve(true);
    this.#finishIfComplete();
  }

  /** The store lost a chunk that we had. */
  lost(index: number): void {
    this.#wanted.add(index);
  }

  /** Asks for as much as the windows allow. */
  plan(share: number): void {
    if (this.#closed || (this.#whole === 0 && this.#urgent.size === 0)) return;
    this.isSettled ||= this.#deps.settled(this);
    const links = this.#deps.links();
    this.#designate(links);
    const uploaders = this.#uploaders(links, share);
    const picks = this.#pick(uploaders, false);
    // Nothing of ours is left: help with what nobody claims, little at a time, rather than idle.
    if (picks.length === 0 && this.isSettled && this.#firstCopies() === 0) {
      picks.push(...this.#pick(uploaders, true).slice(0, 2));
    }
    this.#send(picks);
    this.#endGame(links);
  }

  /** Called a few times a second. */
  tick(now: number): void {
    if (this.#closed) return;
    const holders = this.#deps.links().filter((link) => this.#mapOf(link) !== undefined);
    for (const [index, { since, settle }] of this.#urgent) {
      if (now - since < NO_SOURCE_MS || this.#flights.has(index) || this.#storing.has(index)) continue;
      if (!holders.some((link) => this.#mapOf(link)?.has(index))) settle.resolve(false);
    }
    const sought = holders.some((link) => (this.#mapOf(link)?.count ?? 0) > 0);
    if (!sought && this.#wanted.length > 0) this.#deps.seek(this.local);
  }

  /** True when a holder outside our site is connected. */
  get outside(): boolean {
    return this.#deps.links().some((link) => !link.near && (this.#mapOf(link)?.count ?? 0) > 0);
  }

  /** A neighbour says that it is getting these too: one of us lets go. */
  neighbourClaimed(peer: string, indexes: readonly number[]): void {
    for (const index of indexes) {
      if (!this.local.claims.has(index) || !this.#keepers(index, peer)) continue;
      this.#dropFlights(index);
      this.local.unclaim(index);
      this.#wantAgain(index);
    }
  }

  bytes(link: Link, request: PendingRequest, bytes: Uint8Array, encoded?: Encoded): void {
    const index = request.place?.index ?? -1;
    this.#removeFlight(index, request);
    if (this.#closed || this.local.have.has(index) || this.#storing.has(index)) {
      this.#duplicateBytes += bytes.length;
      return;
    }
    this.#bytesByPeer.set(link.peerId, (this.#bytesByPeer.get(link.peerId) ?? 0) + bytes.length);
    this.#wanted.delete(index);
    this.#dropFlights(index);
    this.#storing.add(index);
    this.#deps.storing(bytes);
    void this.#store(index, request, bytes, encoded);
  }

  ended(_link: Link, request: PendingRequest, reason: EndReason): void {
    const index = request.place?.index ?? -1;
    this.#removeFlight(index, request);
    if (reason === 'missing') _link.sets.get(this.local.key)?.map.delete(index);
    if (this.#flights.has(index) || this.#closed) return;
    this.local.unclaim(index);
    this.#wantAgain(index);
    this.#deps.changed(this.local);
  }

  close(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const index of [...this.#flights.keys()]) this.#dropFlights(index);
    for (const index of [...this.local.claims]) this.local.unclaim(index);
    for (const urgent of this.#urgent.values()) urgent.settle.resolve(false);
    if (error) this.done.reject(error);
  }

  async #store(index: number, request: PendingRequest, bytes: Uint8Array, encoded?: Encoded): Promise<void> {
    const size = bytes.length;
    let kept = false;
    try {
      await this.#deps.store.put(request.cid, bytes, encoded);
      kept = true;
    } catch (error) {
      this.done.reject(error);
      this.#urgent.get(index)?.settle.reject(error);
      return;
    } finally {
      this.#storing.delete(index);
      this.#deps.settledStore(bytes, kept, encoded);
    }
    this.#bytes += size;
    this.#chunks += 1;
    this.local.stored(index);
    this.#urgent.get(index)?.settle.resolve(true);
    for (const listener of this.#listeners) listener(size);
    this.#finishIfComplete();
    this.#deps.changed(this.local);
  }

  #finishIfComplete(): void {
    if (this.local.have.complete) this.done.resolve();
  }

  #wantAgain(index: number): void {
    if (index >= 0 && !this.local.have.has(index) && !this.#storing.has(index)) this.#wanted.add(index);
  }

  #mapOf(link: Link) {
    const remote = link.sets.get(this.local.key);
    return remote?.chunks === this.local.set.chunks.length ? remote.map : undefined;
  }

  #designate(links: readonly Link[]): void {
    const wanting = links.filter((link) => link.near && link.sets.get(this.local.key)?.wants);
    const outside = wanting.filter((link) => link.sets.get(this.local.key)?.outside);
    const next = {
      outside: new Designation([this.#deps.self, ...outside.map(({ peerId }) => peerId)]),
      seed: new Designation([this.#deps.self, ...wanting.map(({ peerId }) => peerId)]),
    };
    if (!next.outside.equals(this.#designations.outside) || !next.seed.equals(this.#designations.seed)) {
      this.#designations = next;
    }
  }

  #uploaders(links: readonly Link[], share: number): (Uploader & { link: Link })[] {
    let budget = this.#deps.budget();
    return links.flatMap((link) => {
      const map = this.#mapOf(link);
      if (map === undefined || map.count === 0 || link.stalled) return [];
      const { target, room } = link.window;
      // Refill by halves: one message and one look at the set for many chunks.
      const open = room >= target / 2 || this.#urgent.size > 0 || link.live < 2 ? Math.min(room * share, budget) : 0;
      budget -= open;
      return [{ id: link.peerId, near: link.near, map, room: open, link }];
    });
  }

  #pick(uploaders: (Uploader & { link: Link })[], steal: boolean): Pick[] {
    const { set } = this.local;
    const now = performance.now();
    const neighbours = this.#deps.links().filter((link) => link.near && !link.stalled);
    return pick(
      {
        wanted: this.#whole > 0 ? this.#wanted : ONLY_URGENT,
        uploaders,
        urgent: new Set([...this.#urgent.keys()].filter((index) => this.#wanted.has(index))),
        size: (index) => set.chunks[index]?.size ?? 0,
        claimed: (index) => neighbours.some((link) => link.sets.claims(this.local.key, index)),
        designated: (index, from) => this.isSettled && this.#designations[from].fetcherOf(index) === this.#deps.self,
        steal,
        overdue: (index) => this.isSettled && now - (this.#urgent.get(index)?.since ?? now) > URGENT_PATIENCE_MS,
        limit: PICKS,
      },
      this.#deps.random,
    );
  }

  #send(picks: readonly Pick[]): void {
    const byLink = new Map<Link, number[]>();
    for (const { index, uploader } of picks) {
      const { link } = uploader as Uploader & { link: Link };
      byLink.set(link, [...(byLink.get(link) ?? []), index]);
      if (!link.near || this.#mapOf(link)?.complete) this.local.claim(index);
    }
    for (const [link, indexes] of byLink) this.#ask(link, indexes);
    if (picks.length > 0) this.#deps.claimed(this.local);
  }

  #ask(link: Link, indexes: readonly number[]): void {
    const asks = indexes.flatMap((index) => {
      const chunk = this.local.set.chunks[index];
      if (chunk === undefined) return [];
      const priority = this.#urgent.has(index) ? ('urgent' as const) : this.priority;
      const { likeness } = this.local;
      const names = likeness?.of(index) ?? [];
      const like = likeness && names.length > 0 ? { names, from: likeness } : undefined;
      return [{ ...chunk, place: { handle: this.local.handle, index }, priority, like }];
    });
    for (const request of link.ask(this, asks)) {
      const index = request.place?.index ?? -1;
      this.#wanted.delete(index);
      this.#flights.set(index, [...(this.#flights.get(index) ?? []), { link, request }]);
    }
  }

  /** Flights that cost the uplink or a seed's first copies. */
  #firstCopies(): number {
    return this.local.claims.size;
  }

  /** Nothing is left to ask for: what a slow neighbour owes us is asked of another one too, never across the uplink. */
  #endGame(links: readonly Link[]): void {
    if (this.#wanted.length > 0 || this.#whole === 0) return;
    const now = performance.now();
    for (const [index, flights] of this.#flights) {
      const [first] = flights;
      if (flights.length !== 1 || first === undefined || now - first.request.sentAt < END_GAME_MS) continue;
      const other = links.find(
        (link) =>
          link.near && link !== first.link && !link.stalled && link.window.room > 0 && this.#mapOf(link)?.has(index),
      );
      if (other) this.#ask(other, [index]);
    }
  }

  /** True when `peer` keeps fetching chunk `index`, and not we: its designated node does, else the smaller id. */
  #keepers(index: number, peer: string): boolean {
    const { outside, seed } = this.#designations;
    const designated = (this.outside ? outside : seed).fetcherOf(index);
    if (designated === this.#deps.self) return false;
    return designated === peer || peer < this.#deps.self;
  }

  #dropFlights(index: number): void {
    const flights = this.#flights.get(index) ?? [];
    this.#flights.delete(index);
    for (const { link, request } of flights) link.cancel([request]);
  }

  #removeFlight(index: number, request: PendingRequest): void {
    const rest = (this.#flights.get(index) ?? []).filter((flight) => flight.request !== request);
    if (rest.length > 0) this.#flights.set(index, rest);
    else this.#flights.delete(index);
  }
}

const ONLY_URGENT = new WantList(0);
