import type { Libp2p } from '@libp2p/interface';
import type { CID } from 'multiformats/cid';
import { BufferPool } from '../content/buffer-pool.ts';
import type { ChunkSet } from '../content/chunk-set.ts';
import type { ChunkStore } from '../content/chunk-source.ts';
import type { LaneKind } from '../lane/lane.ts';
import type { Log } from '../observe/log.ts';
import type { DownloadOptions } from '../schedule/download.ts';
import type { NewsOptions } from '../schedule/news.ts';
import type { WindowOptions } from '../schedule/window.ts';
import { Announcer } from './announcer.ts';
import type { Link, LinkEvents } from './link.ts';
import { type LanesPolicy, Links } from './links.ts';
import { LocalSet } from './local-set.ts';
import { RecentChunks } from './recent.ts';
import { Session } from './session.ts';
import { type Caps, setCaps, type Throttles, throttlesOf } from './throttle.ts';
import { Uplink } from './uplink.ts';

export interface ExchangeOptions {
  /** Bytes asked for or on their way into the store, over all peers. @default 32 MiB */
  readonly maxBytesInFlight: number;
  /** Longest wait for the neighbours' word before the first chunk crosses the uplink, milliseconds. @default 600 */
  readonly settleMs: number;
  /** Sets that are shared or downloaded at a time. @default 1024 */
  readonly maxSets: number;
  readonly window: Partial<WindowOptions>;
  readonly caps: Caps;
  readonly download: Partial<DownloadOptions>;
  readonly news: Partial<NewsOptions>;
}

export const EXCHANGE_DEFAULTS: ExchangeOptions = {
  maxBytesInFlight: 32 * 1024 * 1024,
  settleMs: 600,
  maxSets: 1024,
  window: {},
  caps: {},
  download: {},
  news: {},
};

export interface ExchangeDeps {
  readonly node: Libp2p;
  readonly store: ChunkStore;
  readonly log: Log;
  /** Of our site? */
  near(peerId: string): boolean;
  /** Neighbours that should be asked before anything crosses the uplink. */
  expectedNeighbours(): string[];
  onLink(link: Link): void;
  onWrongBytes(peerId: string, cid: CID, lane: LaneKind): void;
  onMalformed(peerId: string, error: Error): void;
  onTraffic(peerId: string, direction: 'in' | 'out', bytes: number): void;
  seek(set: ChunkSet): void;
  /** The fleet's description calls it an origin or a seed: it is asked before others. */
  likely(peerId: string): boolean;
  readonly lanes: LanesPolicy;
  /** What nobody waits for may be asked for now. */
  backgroundOpen(): boolean;
}

const TICK_MS = 200;
/** How much of a timer's lateness is remembered from tick to tick. */
const LATE_KEPT = 0.8;
/** While this process is less late than that, milliseconds, lanes are opened ahead: when all is calm. */
const CALM_MS = 50;
/** While others boot, prefetch gets this share of each peer's window. */
const BACKGROUND_SHARE = 0.25;

/** All links and all sets: who is asked for what is decided here, a session at a time, foreground first. */
export class Exchange implements Disposable {
  links!: Links;
  readonly throttles: Throttles;
  readonly #uplink: Uplink;
  readonly sets = new Map<string, LocalSet>();
  readonly #sessions = new Map<LocalSet, Session>();
  readonly #opening = new Map<string, Promise<LocalSet>>();
  readonly #deps: ExchangeDeps;
  readonly #options: ExchangeOptions;
  readonly #buffers = new BufferPool();
  readonly #recent = new RecentChunks(this.#buffers);
  readonly #self: string;
  readonly #announcer = new Announcer({
    links: () => this.links.all(),
    outside: (local) => this.#outside(local),
    lateMs: () => this.#lateMs,
  });
  readonly #saidOutside = new WeakMap<LocalSet, boolean>();
  #planTimer: NodeJS.Timeout | undefined;
  /** How late this process has been lately, milliseconds: its neighbours may be no faster. */
  #lateMs = 0;
  #tickedAt = performance.now();
  #planning = false;
  #storing = 0;
  #nextHandle = 1;
  readonly #ticker: NodeJS.Timeout;

  private constructor(deps: ExchangeDeps, options: ExchangeOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#self = deps.node.peerId.toString();
    this.throttles = throttlesOf(options.caps);
    this.#uplink = new Uplink({
      throttles: this.throttles,
      neighbours: () => this.links.ready().filter(({ near }) => near),
      alone: () => deps.expectedNeighbours().length === 0,
      fetching: () => [...this.#sessions.values()].some((session) => session.users > 0 && session.outside),
    });
    this.#ticker = setInterval(() => this.#tick(), TICK_MS);
    this.#ticker.unref();
  }

  static async open(deps: ExchangeDeps, options: Partial<ExchangeOptions> = {}): Promise<Exchange> {
    const exchange = new Exchange(deps, { ...EXCHANGE_DEFAULTS, ...options });
    exchange.links = await Links.open(
      {
        ...deps,
        buffers: exchange.#buffers,
        recent: exchange.#recent,
        events: exchange.#linkEvents(),
        throttles: exchange.throttles,
        chunkAt: (key, index) => exchange.sets.get(key)?.offer(index),
      },
      exchange.#options.window,
    );
    return exchange;
  }

  /** The set with everything we hold of it, from now on known to the peers that want it. */
  async open(set: ChunkSet): Promise<LocalSet> {
    const key = set.id.toString();
    // No await before #opening is set: two callers of one turn must get one and the same set.
    const known = this.sets.get(key) ?? this.#opening.get(key);
    if (known) return known;
    if (this.sets.size + this.#opening.size >= this.#options.maxSets) {
      throw new RangeError(`${this.#options.maxSets} sets are shared already; unshare one before ${set.id}`);
    }
    const opening = this.#openSet(set).finally(() => this.#opening.delete(key));
    this.#opening.set(key, opening);
    return opening;
  }

  close(key: string): void {
    const local = this.sets.get(key);
    if (local === undefined) return;
    this.#sessions.get(local)?.close(new Error('the set is no longer shared'));
    this.#sessions.delete(local);
    this.sets.delete(key);
    this.#announcer.forget(local);
    for (const link of this.links.all()) link.send({ kind: 'unsubscribe', handle: local.handle });
  }

  /** The session that gets `local`, made when there is none. Call `release` when it is no longer used. */
  session(local: LocalSet): Session {
    const running = this.#sessions.get(local);
    if (running) return running;
    const session = new Session(
      {
        self: this.#self,
        store: this.#deps.store,
        link: (peer) => this.links.get(peer),
        links: () => this.links.ready(),
        likely: (peer) => this.#deps.likely(peer),
        expected: () => this.#deps.expectedNeighbours(),
        settleMs: this.#options.settleMs,
        budget: () => this.#options.maxBytesInFlight - this.#storing - this.#outstanding(),
        admit: (near, bytes) => this.throttles.down.admit(near, bytes),
        soon: () => this.throttles.down.slots(false),
        dropped: (near, bytes) => this.throttles.down.dropped(near, bytes),
        storing: (bytes) => {
          this.#storing += bytes.length;
        },
        settledStore: (cid, bytes, kept, encoded) => {
          this.#storing -= bytes.length;
          // What came compressed leaves compressed, as the store keeps it.
          if (kept && !encoded) this.#recent.keep(cid, bytes);
          else if (kept) this.#buffers.give(bytes);
          if (kept && encoded) this.#buffers.give(encoded.bytes);
        },
        changed: (one) => this.#changed(one),
        claimed: (one) => this.#announcer.hurry(one),
        lateMs: () => this.#lateMs,
        stalled: (link) => {
          if (!link.giveUp()) this.#deps.log.info('peer stalled', { peer: link.peerId });
        },
        seek: (one) => this.#deps.seek(one.set),
        random: Math.random,
      },
      local,
      this.#options.download,
    );
    this.#sessions.set(local, session);
    local.wanted = true;
    session.open();
    return session;
  }

  /** Ends the session when nobody uses it any more. */
  release(local: LocalSet): void {
    const session = this.#sessions.get(local);
    if (session === undefined || session.users > 0) return;
    session.close();
    this.#sessions.delete(local);
    local.wanted = false;
    local.news.changed(performance.now());
    this.#changed(local);
    // Peers outside were told of first copies alone.
    if (!local.have.complete) return;
    for (const link of this.links.ready()) {
      if (!link.near && link.sets.get(local.key)?.wants) link.send(local.subscribe(false));
    }
  }

  /** Something else stored the chunk, or found that it is lost: the sets that it is part of learn of it. */
  noteStored(cid: CID): void {
    this.#eachPlace(cid, (local, index) => {
      const session = this.#sessions.get(local);
      if (session) session.stored(index);
      else local.stored(index, true);
    });
  }

  noteLost(cid: CID): void {
    this.#eachPlace(cid, (local, index) => {
      local.lost(index);
      this.#sessions.get(local)?.lost(index);
    });
  }

  /** Other caps from now on. */
  setCaps(caps: Caps): void {
    setCaps(this.throttles, caps);
    this.#uplink.look();
    this.#planSoon();
  }

  drop(peerId: string): void {
    this.links.get(peerId)?.close();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#ticker);
    this.#announcer[Symbol.dispose]();
    clearTimeout(this.#planTimer);
    for (const session of this.#sessions.values()) session.close(new Error('the swarm was closed'));
    this.links[Symbol.dispose]();
    for (const throttle of Object.values(this.throttles)) throttle[Symbol.dispose]();
  }

  async #openSet(set: ChunkSet): Promise<LocalSet> {
    const local = await LocalSet.open(set, this.#nextHandle++, this.#deps.store, this.#options.news);
    this.sets.set(local.key, local);
    for (const link of this.links.all()) {
      if (link.sets.get(local.key)?.wants) link.send(local.subscribe(false));
    }
    return local;
  }

  #eachPlace(cid: CID, use: (local: LocalSet, index: number) => void): void {
    for (const local of this.sets.values()) {
      const index = local.set.indexOf(cid);
      if (index === undefined) continue;
      use(local, index);
      this.#changed(local);
    }
  }

  #linkEvents(): LinkEvents {
    return {
      onReady: (link) => this.#ready(link),
      onMessage: (link, message) => this.#heard(link, message),
      onWrongBytes: (link, cid, lane) => this.#deps.onWrongBytes(link.peerId, cid, lane),
      onReceived: (link, bytes) => this.#deps.onTraffic(link.peerId, 'in', bytes),
      onSent: (link, bytes) => this.#deps.onTraffic(link.peerId, 'out', bytes),
      onMissing: (cid) => this.noteLost(cid),
      onClose: (link, malformed) => this.#closed(link, malformed),
    };
  }

  #ready(link: Link): void {
    for (const session of this.#sessions.values()) session.approach(link);
    this.#uplink.met(link);
    this.#deps.onLink(link);
    this.#planSoon();
  }

  #closed(link: Link, malformed: Error | undefined): void {
    if (malformed) this.#deps.onMalformed(link.peerId, malformed);
    this.#uplink.left(link);
    for (const [local, session] of this.#sessions) {
      session.left(link);
      this.#sayOutside(local);
    }
    this.#planSoon();
  }

  #heard(link: Link, message: Parameters<LinkEvents['onMessage']>[1]): void {
    switch (message.kind) {
      case 'subscribe': {
        const local = this.sets.get(message.set.toString());
        const before = link.sets.subscribe(message, local !== undefined);
        local && this.#sessions.get(local)?.met(link);
        if (local) this.#sayOutside(local);
        if (message.wants && !before?.wants) this.#answer(link, message.handle, local);
        if (message.wants && local) this.#announcer.changed(local);
        break;
      }
      case 'have': {
        const update = link.sets.update(message);
        const local = update && this.sets.get(update.set.key);
        const session = local && this.#sessions.get(local);
        if (update === undefined || local === undefined || session === undefined) return;
        const opened = session.heard(link, update.news);
        this.#sayOutside(local);
        if (opened) break;
        return;
      }
      case 'unsubscribe': {
        const gone = link.sets.unsubscribe(message.handle);
        const local = gone && this.sets.get(gone.key);
        local && this.#sessions.get(local)?.left(link);
        break;
      }
      case 'uplink':
        this.#uplink.heard(link, message);
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

  #outside(local: LocalSet): boolean {
    return this.#sessions.get(local)?.outside ?? false;
  }

  #sayOutside(local: LocalSet): void {
    const outside = this.#outside(local);
    if (this.#saidOutside.get(local) === outside) return;
    this.#saidOutside.set(local, outside);
    local.news.changed(performance.now());
    this.#changed(local);
  }

  #outstanding(): number {
    let bytes = 0;
    for (const link of this.links.all()) bytes += link.window.outstanding;
    return bytes;
  }

  #changed(local: LocalSet): void {
    this.#planSoon();
    this.#announcer.changed(local);
  }

  /** Planned in a turn of its own, after what arrived meanwhile has been read: a late timer suspects nobody. */
  #planSoon(): void {
    if (this.#planning) return;
    this.#planning = true;
    setImmediate(() => this.#plan());
  }

  #plan(): void {
    this.#planning = false;
    const background = this.#deps.backgroundOpen();
    const sessions = [...this.#sessions.values()];
    const foreground = sessions.filter(({ priority }) => priority === 'foreground');
    for (const session of foreground) session.plan(1, background);
    const share = foreground.some(({ outstanding }) => outstanding > 0) ? BACKGROUND_SHARE : 1;
    for (const session of sessions) if (session.priority === 'background') session.plan(share, background);
    clearTimeout(this.#planTimer);
    const wakeAt = Math.min(this.throttles.down.takeWakeAt(), ...sessions.map((session) => session.wakeAt));
    if (!Number.isFinite(wakeAt)) return;
    this.#planTimer = setTimeout(() => this.#planSoon(), Math.max(0, wakeAt - performance.now())).unref();
  }

  #tick(): void {
    const now = performance.now();
    this.links.closeUnready(now);
    this.#uplink.look();
    this.#lateMs = Math.max(LATE_KEPT * this.#lateMs, now - this.#tickedAt - TICK_MS);
    this.#tickedAt = now;
    if (this.#lateMs < CALM_MS) this.links.prepareSome();
    for (const session of this.#sessions.values()) session.tick(now);
    if (this.#sessions.size > 0) this.#planSoon();
  }
}
