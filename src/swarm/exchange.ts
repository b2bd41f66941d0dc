import type { Connection, Stream } from '@libp2p/interface';
import type { CID } from 'multiformats/cid';
import type { ChunkSet } from '../content/chunk-set.ts';
import type { ChunkStore } from '../content/chunk-source.ts';
import type { Log } from '../observe/log.ts';
import type { WindowOptions } from '../schedule/window.ts';
import { BufferPool } from './buffer-pool.ts';
import { ControlStream, EXCHANGE_PROTOCOL } from './control-stream.ts';
import { Link, type LinkEvents } from './link.ts';
import { LocalSet } from './local-set.ts';
import { MalformedMessage } from './message.ts';
import type { SwarmNode } from './node.ts';
import { Session } from './session.ts';
import { LANE_PROTOCOL, StreamLane } from './stream-lane.ts';
import { UploadSlots } from './uploads.ts';

export interface ExchangeOptions {
  /** Bytes asked for or on their way into the store, over all peers. @default 32 MiB */
  readonly maxBytesInFlight: number;
  /** A neighbour is given up when no byte came for this long, milliseconds. @default 2000 */
  readonly stallNearMs: number;
  /** The same for a peer outside our site. @default 4000 */
  readonly stallFarMs: number;
  /** Longest wait for the neighbours' word before the first chunk crosses the uplink, milliseconds. @default 1500 */
  readonly settleMs: number;
  /** News for the peers are collected for this long, milliseconds. @default 20 */
  readonly announceMs: number;
  /** Sets that are shared or downloaded at a time. @default 1024 */
  readonly maxSets: number;
  readonly window: Partial<WindowOptions>;
}

export const EXCHANGE_DEFAULTS: ExchangeOptions = {
  maxBytesInFlight: 32 * 1024 * 1024,
  stallNearMs: 2_000,
  stallFarMs: 4_000,
  settleMs: 1_500,
  announceMs: 20,
  maxSets: 1024,
  window: {},
};

export interface ExchangeDeps {
  readonly node: SwarmNode;
  readonly store: ChunkStore;
  readonly log: Log;
  /** Of our site? */
  near(peerId: string): boolean;
  /** Neighbours that should be asked before anything crosses the uplink. */
  expectedNeighbours(): string[];
  onLink(link: Link): void;
  onWrongBytes(peerId: string, cid: CID): void;
  onMalformed(peerId: string, error: Error): void;
  onTraffic(peerId: string, direction: 'in' | 'out', bytes: number): void;
  seek(set: ChunkSet): void;
}

/** A stalled peer rests this long before it is tried again, milliseconds. */
const STALL_REST_MS = 5_000;
const TICK_MS = 250;
const OPEN_TIMEOUT_MS = 5_000;
/** While others boot, prefetch gets this share of each peer's window. */
const BACKGROUND_SHARE = 0.25;

/** All links and all sets: who is asked for what is decided here, a session at a time, foreground first. */
export class Exchange implements Disposable {
  readonly links = new Map<string, Link>();
  readonly sets = new Map<string, LocalSet>();
  readonly #opening = new Map<string, Promise<LocalSet>>();
  readonly #deps: ExchangeDeps;
  readonly #options: ExchangeOptions;
  readonly #slots = new UploadSlots();
  readonly #buffers = new BufferPool();
  readonly #self: string;
  readonly #abort = new AbortController();
  readonly #dirty = new Set<LocalSet>();
  readonly #saidOutside = new WeakMap<LocalSet, boolean>();
  #announceTimer: NodeJS.Timeout | undefined;
  #planning = false;
  #storing = 0;
  #nextHandle = 1;
  readonly #ticker: NodeJS.Timeout;

  private constructor(deps: ExchangeDeps, options: ExchangeOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#self = deps.node.peerId.toString();
    this.#ticker = setInterval(() => this.#tick(), TICK_MS);
    this.#ticker.unref();
  }

  static async open(deps: ExchangeDeps, options: Partial<ExchangeOptions> = {}): Promise<Exchange> {
    const exchange = new Exchange(deps, { ...EXCHANGE_DEFAULTS, ...options });
    const limits = { maxInboundStreams: 4, maxOutboundStreams: 4 };
    await deps.node.handle(
      EXCHANGE_PROTOCOL,
      (stream, { remotePeer }) => exchange.#accept(stream, remotePeer.toString()),
      limits,
    );
    await deps.node.handle(
      LANE_PROTOCOL,
      (stream, { remotePeer }) => exchange.#acceptLane(stream, remotePeer.toString()),
      limits,
    );
    deps.node.addEventListener('connection:open', ({ detail }) => exchange.#connected(detail));
    for (const connection of deps.node.getConnections()) exchange.#connected(connection);
    return exchange;
  }

  /** The set with everything we hold of it, from now on known to the peers that want it. */
  async open(set: ChunkSet): Promise<LocalSet> {
    const key = set.id.toString();
    const known = this.sets.get(key) ?? (await this.#opening.get(key));
    if (known) return known;
    if (this.sets.size + this.#opening.size >= this.#options.maxSets) {
      throw new RangeError(`${this.#options.maxSets} sets are shared already; unshare one before ${set.id}`);
    }
    const opening = LocalSet.open(set, this.#nextHandle++, this.#deps.store);
    this.#opening.set(key, opening);
    try {
      const local = await opening;
      this.sets.set(key, local);
      this.#tellInterested(local);
      return local;
    } finally {
      this.#opening.delete(key);
    }
  }

  close(key: string): void {
    const local = this.sets.get(key);
    if (local === undefined) return;
    local.session?.close(new Error('the set is no longer shared'));
    local.session = undefined;
    this.sets.delete(key);
    for (const link of this.links.values()) link.send({ kind: 'unsubscribe', handle: local.handle });
  }

  /** The session that gets `local`, made when there is none. Call `release` when it is no longer used. */
  session(local: LocalSet, priority: 'foreground' | 'background'): Session {
    if (local.session) return local.session;
    const session = new Session(
      {
        self: this.#self,
        store: this.#deps.store,
        links: () => [...this.links.values()].filter((link) => link.ready),
        settled: (one) => this.#settled(one),
        budget: () => this.#options.maxBytesInFlight - this.#storing - this.#outstanding(),
        storing: (bytes) => {
          this.#storing += bytes.length;
        },
        settledStore: (bytes, kept) => {
          this.#storing -= bytes.length;
          if (kept) this.#buffers.give(bytes);
        },
        changed: (one) => this.#changed(one),
        seek: (one) => this.#deps.seek(one.set),
        random: Math.random,
      },
      local,
      priority,
    );
    local.session = session;
    for (const link of this.links.values()) if (link.ready) link.send(local.subscribe(this.#outside(local)));
    return session;
  }

  /** Ends the session when nobody uses it any more. */
  release(local: LocalSet): void {
    const { session } = local;
    if (session === undefined || session.users > 0) return;
    session.close();
    local.session = undefined;
    this.#changed(local);
  }

  /** Something else stored the chunk, or found that it is lost: the sets that it is part of learn of it. */
  noteStored(cid: CID): void {
    this.#eachPlace(cid, (local, index) => (local.session ? local.session.stored(index) : local.stored(index)));
  }

  noteLost(cid: CID): void {
    this.#eachPlace(cid, (local, index) => {
      local.lost(index);
      local.session?.lost(index);
    });
  }

  drop(peerId: string): void {
    this.links.get(peerId)?.close();
  }

  [Symbol.dispose](): void {
    this.#abort.abort();
    clearInterval(this.#ticker);
    clearTimeout(this.#announceTimer);
    for (const local of this.sets.values()) local.session?.close(new Error('the swarm was closed'));
    for (const link of [...this.links.values()]) link.close();
  }

  #eachPlace(cid: CID, use: (local: LocalSet, index: number) => void): void {
    for (const local of this.sets.values()) {
      const index = local.set.indexOf(cid);
      if (index === undefined) continue;
      use(local, index);
      this.#changed(local);
    }
  }

  #connected(connection: Connection): void {
    const peer = connection.remotePeer.toString();
    // One of a pair opens the streams: the one with the smaller id.
    if (this.#self < peer) void this.#openLink(connection, peer);
  }

  async #openLink(connection: Connection, peer: string): Promise<void> {
    if (this.links.has(peer) || this.#abort.signal.aborted || connection.status !== 'open') return;
    const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(OPEN_TIMEOUT_MS)]);
    const link = this.#newLink(peer);
    try {
      link.attachControl(this.#control(await connection.newStream(EXCHANGE_PROTOCOL, { signal }), link));
      link.attachLane(this.#lane(await connection.newStream(LANE_PROTOCOL, { signal }), link));
    } catch (error) {
      this.#deps.log.debug('exchange not opened', { peer, error });
      link.close();
    }
  }

  #accept(stream: Stream, peer: string): void {
    if (this.#self < peer) return stream.abort(new Error('the exchange is ours to open'));
    this.links.get(peer)?.close();
    const link = this.#newLink(peer);
    link.attachControl(this.#control(stream, link));
  }

  #acceptLane(stream: Stream, peer: string): void {
    const link = this.links.get(peer);
    if (link === undefined || link.ready) return stream.abort(new Error('no exchange to carry'));
    link.attachLane(this.#lane(stream, link));
  }

  #control(stream: Stream, link: Link): ControlStream {
    return new ControlStream(stream, {
      onMessage: (message) => link.onMessage(message),
      onClose: (error) => link.close(error instanceof MalformedMessage ? error : undefined),
    });
  }

  #lane(stream: Stream, link: Link): StreamLane {
    return new StreamLane(stream, {
      allow: (request, flags) => link.allow(request, flags),
      allocate: (length) => this.#buffers.take(length),
      onFrame: (frame) => link.onFrame(frame),
      onProgress: (bytes) => link.onProgress(bytes),
      onClose: (malformed) => link.close(malformed),
    });
  }

  #newLink(peerId: string): Link {
    const events: LinkEvents = {
      onReady: (link) => this.#ready(link),
      onMessage: (link, message) => this.#heard(link, message),
      onWrongBytes: (link, cid) => this.#deps.onWrongBytes(link.peerId, cid),
      onReceived: (link, bytes) => this.#deps.onTraffic(link.peerId, 'in', bytes),
      onSent: (link, bytes) => this.#deps.onTraffic(link.peerId, 'out', bytes),
      onMissing: (cid) => this.noteLost(cid),
      onClose: (link, malformed) => this.#closed(link, malformed),
    };
    const link = new Link(
      {
        store: this.#deps.store,
        slots: this.#slots,
        events,
        chunkAt: (key, index) => this.sets.get(key)?.cidAt(index),
      },
      { peerId, near: this.#deps.near(peerId) },
      this.#options.window,
    );
    this.links.set(peerId, link);
    return link;
  }

  #ready(link: Link): void {
    for (const local of this.sets.values()) if (local.session) link.send(local.subscribe(this.#outside(local)));
    this.#deps.onLink(link);
    this.#planSoon();
  }

  #closed(link: Link, malformed: Error | undefined): void {
    if (this.links.get(link.peerId) === link) this.links.delete(link.peerId);
    if (malformed) this.#deps.onMalformed(link.peerId, malformed);
    for (const local of this.sets.values()) if (local.session) this.#sayOutside(local);
    this.#planSoon();
    if (malformed || this.#abort.signal.aborted) return;
    // The connection may have outlived its streams, or a second one may stand: try again, a moment later.
    const retry = () => {
      const [connection] = this.#deps.node.getConnections().filter((one) => one.remotePeer.toString() === link.peerId);
      if (connection) this.#connected(connection);
    };
    setTimeout(retry, TICK_MS).unref();
  }

  #heard(link: Link, message: Parameters<LinkEvents['onMessage']>[1]): void {
    switch (message.kind) {
      case 'subscribe': {
        const before = link.sets.subscribe(message);
        const local = this.sets.get(message.set.toString());
        if (local?.session) this.#sayOutside(local);
        if (message.wants && !before?.wants) this.#answer(link, message.handle, local);
        else if (local?.session) local.session.neighbourClaimed(link.peerId, link.near ? message.claimed : []);
        break;
      }
      case 'have': {
        const remote = link.sets.update(message);
        const local = remote && this.sets.get(remote.key);
        if (!local?.session) return;
        this.#sayOutside(local);
        if (link.near) local.session.neighbourClaimed(link.peerId, message.claimed);
        break;
      }
      case 'unsubscribe':
        link.sets.unsubscribe(message.handle);
        break;
      case 'decline':
        for (const local of this.sets.values()) if (local.handle === message.handle) link.sets.declined.add(local.key);
        break;
    }
    this.#planSoon();
  }

  #answer(link: Link, handle: number, local: LocalSet | undefined): void {
    link.send(local ? local.subscribe(this.#outside(local)) : { kind: 'decline', handle });
  }

  #tellInterested(local: LocalSet): void {
    for (const link of this.links.values()) {
      if (link.sets.get(local.key)?.wants) link.send(local.subscribe(this.#outside(local)));
    }
  }

  #settled(session: Session): boolean {
    if (performance.now() - session.startedAt > this.#options.settleMs) return true;
    return this.#deps.expectedNeighbours().every((peer) => {
      const sets = this.links.get(peer)?.sets;
      return sets?.get(session.local.key) !== undefined || sets?.declined.has(session.local.key) === true;
    });
  }

  #outside(local: LocalSet): boolean {
    return local.session?.outside ?? false;
  }

  #sayOutside(local: LocalSet): void {
    const outside = this.#outside(local);
    if (this.#saidOutside.get(local) === outside) return;
    this.#saidOutside.set(local, outside);
    this.#changed(local);
  }

  #outstanding(): number {
    let bytes = 0;
    for (const link of this.links.values()) bytes += link.window.outstanding;
    return bytes;
  }

  #changed(local: LocalSet): void {
    this.#planSoon();
    this.#dirty.add(local);
    this.#announceTimer ??= setTimeout(() => this.#announce(), this.#options.announceMs).unref();
  }

  #announce(): void {
    this.#announceTimer = undefined;
    for (const local of this.#dirty) {
      const messages = local.changes(this.#outside(local));
      for (const link of this.links.values()) {
        if (!link.sets.get(local.key)?.wants) continue;
        for (const message of messages) {
          link.send(link.near ? message : { ...message, claimed: [], unclaimed: [] });
        }
      }
    }
    this.#dirty.clear();
  }

  #planSoon(): void {
    if (this.#planning) return;
    this.#planning = true;
    setImmediate(() => {
      this.#planning = false;
      const sessions = [...this.sets.values()].flatMap(({ session }) => session ?? []);
      const foreground = sessions.filter(({ priority }) => priority === 'foreground');
      for (const session of foreground) session.plan(1);
      const share = foreground.some(({ outstanding }) => outstanding > 0) ? BACKGROUND_SHARE : 1;
      for (const session of sessions) if (session.priority === 'background') session.plan(share);
    });
  }

  #tick(): void {
    const now = performance.now();
    for (const link of this.links.values()) {
      const limit = link.near ? this.#options.stallNearMs : this.#options.stallFarMs;
      if (link.checkProgress(limit, STALL_REST_MS)) this.#deps.log.info('peer stalled', { peer: link.peerId });
      // The other end accepted a connection but opens no exchange: make room for another attempt.
      if (!link.ready && now - link.openedAt > 2 * OPEN_TIMEOUT_MS) link.close();
    }
    for (const local of this.sets.values()) local.session?.tick(now);
    if (this.sets.size > 0) this.#planSoon();
  }
}
