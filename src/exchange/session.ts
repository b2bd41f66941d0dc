import type { CID } from 'multiformats/cid';
import type { ChunkStore, Encoded } from '../content/chunk-source.ts';
import { Download, type DownloadOptions, type Plan } from '../schedule/download.ts';
import type { Errand } from '../schedule/flights.ts';
import type { RemotePeer } from '../schedule/holder.ts';
import type { Heard } from '../schedule/prospects.ts';
import type { Link } from './link.ts';
import type { LocalSet } from './local-set.ts';
import type { Asked, EndReason, PendingRequest, RequestOwner } from './request.ts';

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
  link(peerId: string): Link | undefined;
  /** Links that can be asked. */
  links(): Link[];
  /** The fleet's description calls it an origin or a seed. */
  likely(peerId: string): boolean;
  /** Neighbours that should be asked before anything crosses the uplink, connected or soon to be. */
  expected(): string[];
  /** Longest wait for their word, milliseconds. */
  readonly settleMs: number;
  /** Bytes that may still be asked for, over all sessions. */
  budget(): number;
  /** Takes room under the rate caps for bytes that will be asked for; false when there is none. */
  admit(near: boolean, bytes: number): boolean;
  /** Chunks that the caps let us get from outside in a moment. */
  soon(): number;
  /** They were not asked for after all. */
  dropped(near: boolean, bytes: number): void;
  /** These bytes are on their way into the store… */
  storing(bytes: Uint8Array): void;
  /** …and no longer. Only a buffer that was `kept` may be used again: a store that fails may still hold it. */
  settledStore(cid: CID, bytes: Uint8Array, kept: boolean, encoded?: Encoded): void;
  /** There is news for the peers, or a reason to plan again. */
  changed(local: LocalSet): void;
  /** The neighbours should hear at once what we are fetching, before they ask for the same. */
  claimed(local: LocalSet): void;
  /** How late this process has been lately, milliseconds. */
  lateMs(): number;
  /** The peer has not sent what it owes us for too long. */
  stalled(link: Link): void;
  /** No peer that we know holds what we want. */
  seek(local: LocalSet): void;
  random(): number;
}

interface Urgent {
  readonly since: number;
  readonly settle: PromiseWithResolvers<boolean>;
  waiters: number;
}

/** Peers that a session asks what they hold at first, and those outside the site among them. */
const MAX_PEERS = 50;
const MAX_FAR_PEERS = 10;
/** A reader is told that nobody has the chunk after this long, milliseconds. */
const NO_SOURCE_MS = 2_000;
/** The peers that we see have this long to say what they hold before others are sought, milliseconds. */
const SEEK_MS = 1_000;

/**
 * Getting one set: shared by everyone here who wants it, whole or in parts. Ends when the last one leaves. It carries
 * what links say to the `Download`, which decides, and what that decides to the links.
 */
export class Session implements RequestOwner {
  readonly local: LocalSet;
  readonly startedAt = performance.now();
  readonly done = Promise.withResolvers<void>();
  readonly #deps: SessionDeps;
  readonly #download: Download;
  /** What each peer was asked for, by chunk. */
  readonly #requests = new Map<string, Map<number, PendingRequest>>();
  /** Whether each peer is of our site. */
  readonly #near = new Map<string, boolean>();
  readonly #urgent = new Map<number, Urgent>();
  readonly #bytesByPeer = new Map<string, number>();
  readonly #listeners = new Set<(bytes: number) => void>();
  /** Peers that were asked what they hold. */
  readonly #asked = new Set<string>();
  #settled = false;
  /** Downloads of the whole set. */
  readonly #whole = { foreground: 0, background: 0 };
  #bytes = 0;
  #chunks = 0;
  #duplicateBytes = 0;
  #closed = false;

  constructor(deps: SessionDeps, local: LocalSet, options: Partial<DownloadOptions>) {
    this.#deps = deps;
    this.local = local;
    const sizes = Uint32Array.from(local.set.chunks, ({ size }) => size);
    this.#download = new Download({ self: deps.self, sizes, have: local.have, random: deps.random }, options);
    this.#download.everything = false;
    local.holders = (index) => this.#download.spread(index);
    this.done.promise.catch(() => undefined);
  }

  /** Readers and downloads that use it. */
  get users(): number {
    return this.#whole.foreground + this.#whole.background + this.#urgent.size;
  }

  /** Background when nobody waits for it. */
  get priority(): 'foreground' | 'background' {
    return this.#whole.foreground + this.#urgent.size > 0 ? 'foreground' : 'background';
  }

  get outstanding(): number {
    return this.#download.inFlight;
  }

  /** True when a holder outside our site is connected. */
  get outside(): boolean {
    return this.#download.outside;
  }

  join(priority: 'foreground' | 'background', onStored: (bytes: number) => void): void {
    this.#whole[priority] += 1;
    this.#listeners.add(onStored);
    this.#finishIfComplete();
    this.#deps.changed(this.local);
  }

  leave(priority: 'foreground' | 'background', onStored: (bytes: number) => void): void {
    this.#whole[priority] -= 1;
    this.#listeners.delete(onStored);
  }

  /** True once chunk `index` is in the store; false when nobody has it. */
  async get(index: number, signal: AbortSignal): Promise<boolean> {
    if (this.local.have.has(index)) return true;
    const now = performance.now();
    const urgent = this.#urgent.get(index) ?? { since: now, settle: Promise.withResolvers<boolean>(), waiters: 0 };
    this.#urgent.set(index, urgent);
    this.#download.urge(index, now);
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
      if (urgent.waiters === 0 && this.#urgent.get(index) === urgent) {
        this.#urgent.delete(index);
        this.#download.calm(index);
      }
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

  /** Asks peers what they hold, likely holders first: not all of a large fleet, which would have to be told all news. */
  open(): void {
    const { likely, random } = this.#deps;
    const links = this.#deps.links().map((link) => ({ link, rank: (likely(link.peerId) ? 0 : 1) + random() }));
    links.sort((a, b) => a.rank - b.rank);
    const far = links.filter(({ link }) => !link.near).slice(0, MAX_FAR_PEERS);
    const near = links.filter(({ link }) => link.near).slice(0, MAX_PEERS - far.length);
    for (const { link } of [...far, ...near]) this.approach(link);
    for (const { link } of links) this.met(link);
  }

  /** Asks a peer what it holds, unless enough others were asked. */
  approach(link: Link): void {
    this.met(link);
    if (this.#asked.size < MAX_PEERS) this.#subscribe(link);
  }

  /** A link can be asked, or its peer has said everything about the set. */
  met(link: Link): void {
    const remote = link.sets.get(this.local.key);
    if (!link.ready || remote === undefined || remote.map.size !== this.local.have.size) return;
    const peer: RemotePeer = {
      id: link.peerId,
      near: link.near,
      window: link.window,
      map: remote.map,
      get wants() {
        return remote.wants;
      },
      get outside() {
        return remote.outside;
      },
    };
    const now = performance.now();
    this.#near.set(peer.id, peer.near);
    link.prepare();
    this.#download.join(peer, now);
    this.#download.heard(peer.id, { claimed: remote.claimed }, now);
  }

  /** True when it may be worth a plan now: more chunks of a peer whose window is full can wait, unless a reader does. */
  heard(link: Link, news: Heard): boolean {
    const opened = this.#download.heard(link.peerId, news, performance.now());
    const { claimed = [], unclaimed = [], lost = [] } = news;
    return opened && (link.window.open || this.#urgent.size + claimed.length + unclaimed.length + lost.length > 0);
  }

  left(link: Link): void {
    this.#download.leave(link.peerId, performance.now());
    this.#requests.delete(link.peerId);
    this.#asked.delete(link.peerId);
  }

  /** Something else put the chunk into the store. */
  stored(index: number): void {
    this.local.stored(index, this.#download.spread(index) === 0, this.#urgent.has(index));
    this.#download.stored(index);
    this.#urgent.get(index)?.settle.resolve(true);
    this.#finishIfComplete();
  }

  /** The store lost a chunk that we had. */
  lost(index: number): void {
    this.#download.lost(index);
  }

  /**
   * Asks for as much as the windows allow.
   * @param share part of each window that is ours
   * @param background false: nothing that nobody waits for
   */
  plan(share: number, background: boolean): void {
    if (this.#closed || this.users === 0) return;
    this.#settled ||= this.#isSettled();
    const { foreground, background: prefetches } = this.#whole;
    this.#download.everything = foreground > 0 || (prefetches > 0 && background);
    const { admit } = this.#deps;
    const options = {
      share,
      admit,
      budget: this.#deps.budget(),
      settled: this.#settled,
      lateMs: this.#deps.lateMs(),
      maxOffers: this.#deps.soon(),
    };
    this.#carryOut(this.#download.plan(performance.now(), options));
  }

  /** When to plan again if nothing happens, by `performance.now()`. */
  get wakeAt(): number {
    return this.#closed || this.users === 0 ? Number.POSITIVE_INFINITY : this.#download.wakeAt(performance.now());
  }

  /** Called a few times a second. */
  tick(now: number): void {
    if (this.#closed) return;
    for (const [index, { since, settle }] of this.#urgent)
      if (now - since >= NO_SOURCE_MS && !this.#download.attainable(index)) settle.resolve(false);
    const heard = this.#settled && now - this.startedAt >= SEEK_MS;
    if (!heard || !this.#download.stranded) return;
    // Some of those who were not asked may hold it, and so may somebody whom we do not see.
    const others = this.#deps.links().filter(({ peerId }) => !this.#asked.has(peerId));
    for (const link of others.slice(0, MAX_FAR_PEERS)) this.#subscribe(link);
    this.#deps.seek(this.local);
  }

  bytes(asked: Asked, request: PendingRequest, bytes: Uint8Array, encoded?: Encoded): void {
    const index = request.place?.index ?? -1;
    this.#forget(asked, request);
    if (this.#closed || !this.#download.delivered(asked.peerId, index, performance.now())) {
      this.#duplicateBytes += bytes.length;
      this.#deps.changed(this.local);
      return;
    }
    this.#bytesByPeer.set(asked.peerId, (this.#bytesByPeer.get(asked.peerId) ?? 0) + bytes.length);
    this.#deps.storing(bytes);
    void this.#store(index, request, bytes, encoded);
  }

  ended(asked: Asked, request: PendingRequest, reason: EndReason): void {
    this.#forget(asked, request);
    if (this.#closed) return;
    this.#download.ended(asked.peerId, request.place?.index ?? -1, reason);
    this.#deps.changed(this.local);
  }

  close(error?: Error): void {
    if (this.#closed) return;
    this.#carryOut(this.#download.close());
    this.#closed = true;
    this.local.holders = undefined;
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
      this.#download.lost(index);
      this.done.reject(error);
      this.#urgent.get(index)?.settle.reject(error);
      return;
    } finally {
      this.#deps.settledStore(request.cid, bytes, kept, encoded);
    }
    this.#bytes += size;
    this.#chunks += 1;
    this.stored(index);
    for (const listener of this.#listeners) listener(size);
    this.#deps.changed(this.local);
  }

  #subscribe(link: Link): void {
    if (this.#asked.has(link.peerId)) return;
    this.#asked.add(link.peerId);
    link.send(this.local.subscribe(this.outside));
  }

  /** All neighbours that we expect have said whether they hold or want the set, or waiting for them is over. */
  #isSettled(): boolean {
    if (performance.now() - this.startedAt > this.#deps.settleMs) return true;
    const { key } = this.local;
    return this.#deps.expected().every((peer) => {
      const link = this.#deps.link(peer);
      if (link === undefined) return false;
      if (link.ready && !this.#asked.has(peer)) return true;
      return link.sets.get(key) !== undefined || link.sets.declined.has(key);
    });
  }

  #finishIfComplete(): void {
    if (this.local.have.complete) this.done.resolve();
  }

  #carryOut({ asks, cancels, claimed, unclaimed, urgentNews, stalled }: Plan): void {
    for (const { peer, indexes } of cancels) this.#cancel(peer, indexes);
    for (const peer of stalled) {
      const link = this.#deps.link(peer);
      if (link) this.#deps.stalled(link);
    }
    for (const errand of asks) this.#ask(errand);
    for (const index of unclaimed) this.local.unclaim(index);
    for (const index of claimed) this.local.claim(index);
    if (urgentNews) this.#deps.claimed(this.local);
    else if (claimed.length + unclaimed.length > 0) this.#deps.changed(this.local);
  }

  #ask({ peer, indexes }: Errand): void {
    const link = this.#deps.link(peer);
    const { set, handle, likeness } = this.local;
    if (link === undefined) {
      // It closed within this turn, and takes part no more: only the room that was taken for it is given back.
      for (const index of indexes) this.#deps.dropped(this.#near.get(peer) ?? false, set.chunks[index]?.size ?? 0);
      return;
    }
    const asks = indexes.flatMap((index) => {
      const chunk = set.chunks[index];
      if (chunk === undefined) return [];
      const priority = this.#urgent.has(index) ? ('urgent' as const) : this.priority;
      const names = likeness?.of(index) ?? [];
      const like = likeness && names.length > 0 ? { names, from: likeness } : undefined;
      return [{ ...chunk, place: { handle, index }, priority, like }];
    });
    const requests = this.#requests.get(peer) ?? new Map<number, PendingRequest>();
    this.#requests.set(peer, requests);
    for (const request of link.ask(this, asks)) requests.set(request.place?.index ?? -1, request);
  }

  #cancel(peer: string, indexes: readonly number[]): void {
    const requests = this.#requests.get(peer);
    const given = indexes.flatMap((index) => requests?.get(index) ?? []);
    for (const index of indexes) requests?.delete(index);
    this.#deps.link(peer)?.cancel(given);
  }

  #forget(asked: Asked, request: PendingRequest): void {
    const requests = this.#requests.get(asked.peerId);
    const index = request.place?.index ?? -1;
    if (requests?.get(index) === request) requests.delete(index);
  }
}
