import { EventEmitter } from 'node:events';
import type { PrivateKey } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import type { CID } from 'multiformats/cid';
import type { ChunkSet } from '../content/chunk-set.ts';
import type { ChunkSource, ChunkStore } from '../content/chunk-source.ts';
import type { Likeness } from '../delta/likeness.ts';
import { Blocks } from '../exchange/blocks.ts';
import { Exchange, type ExchangeOptions } from '../exchange/exchange.ts';
import type { Link } from '../exchange/link.ts';
import type { DownloadReport } from '../exchange/session.ts';
import type { Caps } from '../exchange/throttle.ts';
import { Porter, type PorterOptions } from '../limits/porter.ts';
import type { Log } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import { Dialer } from './dialer.ts';
import { Documents } from './documents.ts';
import { type LaneOptions, LanePolicy } from './lane-policy.ts';
import { gate, type KnownMember, type Membership } from './membership.ts';
import { createNode, type SwarmNode } from './node.ts';
import { Providers } from './providers.ts';
import { Standing, type StandingOptions } from './standing.ts';
import { type PeerStatus, PeerTraffic } from './traffic.ts';
import { Vigil } from './vigil.ts';

export interface SwarmDeps {
  /** Verifies what it reads, as PackStore does: what it gives is served as it is. */
  readonly store: ChunkStore;
  readonly membership: Membership;
  /** The node's ed25519 key; its peer id must be a member's. */
  readonly privateKey: PrivateKey;
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface SwarmOptions {
  /** Multiaddrs to listen on. @default all IPv4 and IPv6 addresses, port 4001 */
  readonly listen?: readonly string[];
  /** Our site, when the membership does not know us (a one-node fleet). @default 'default' */
  readonly site?: string;
  /** Members to dial besides those that the membership lists with addresses. */
  readonly members?: Iterable<KnownMember>;
  /** Multiaddrs with `/p2p/…` that libp2p's own discovery starts from. @default none */
  readonly bootstrap?: readonly string[];
  /** Find members on the segment by multicast DNS. @default false */
  readonly mdns?: boolean;
  /** One dial of one peer, milliseconds. @default 4000 */
  readonly dialTimeoutMs?: number;
  /** A peer that was silent for so long is asked whether it is there, milliseconds. @default 3000 */
  readonly pingMs?: number;
  /** Faster ways for chunk bytes than the libp2p connection. */
  readonly lanes?: Partial<LaneOptions>;
  /** Downloads that nobody waits for may go on now; those in the foreground always may. @default always */
  readonly backgroundOpen?: () => boolean;
  readonly exchange?: Partial<ExchangeOptions>;
  readonly standing?: Partial<StandingOptions>;
  /** What all who have not proven that they are members may take of the port. */
  readonly strangers?: Partial<PorterOptions>;
}

export const SWARM_DEFAULTS = {
  listen: ['/ip4/0.0.0.0/tcp/4001', '/ip6/::/tcp/4001'],
  site: 'default',
  mdns: false,
  dialTimeoutMs: 4_000,
  pingMs: 3_000,
} as const;

type BanReason = 'wrong bytes' | 'malformed messages' | 'false documents';

export interface SwarmEvents {
  'peer:connect': [{ peerId: string }];
  'peer:disconnect': [{ peerId: string }];
  'peer:ban': [{ peerId: string; until: number; reason: BanReason }];
  'chunk:refuse': [{ peerId: string; cid: CID }];
}

export interface DownloadOptions {
  readonly priority: 'foreground' | 'background';
  readonly signal: AbortSignal;
  onProgress?(progress: { readonly bytes: number; readonly total: number }): void;
}

/** Starts the libp2p node and the exchange on it; running when it resolves. */
export async function createSwarm(deps: SwarmDeps, options: SwarmOptions = {}): Promise<Swarm> {
  return Swarm.open(deps, options);
}

/** Gets chunks from neighbours and gives them ours. */
export class Swarm implements AsyncDisposable {
  readonly peerId: string;
  readonly site: string;
  readonly events: EventEmitter<SwarmEvents>;
  /** Manifest nodes, and any other block, by name. Verified; not stored. */
  readonly blocks: Blocks;
  readonly documents: Documents;
  readonly #node: SwarmNode;
  readonly #exchange: Exchange;
  readonly #parts: Parts;

  private constructor(parts: Parts, events: EventEmitter<SwarmEvents>) {
    this.#parts = parts;
    this.events = events;
    this.#node = parts.node;
    this.#exchange = parts.exchange;
    this.documents = parts.documents;
    this.peerId = parts.node.peerId.toString();
    this.site = parts.site;
    this.blocks = new Blocks({
      links: () => parts.exchange.links.ready(),
      likely: parts.likely,
      coming: () => parts.node.getPeers().filter((peer) => !parts.exchange.links.get(peer.toString())?.ready).length,
      down: parts.exchange.throttles.down,
      providers: (cid, { signal }) => this.#providers(cid, signal),
    });
  }

  static async open(deps: SwarmDeps, options: SwarmOptions): Promise<Swarm> {
    const events = new EventEmitter<SwarmEvents>();
    return new Swarm(await openParts(deps, options, events), events);
  }

  /** Multiaddrs that others may dial, with our peer id. */
  addresses(): string[] {
    return this.#node.getMultiaddrs().map(String);
  }

  /** Serves what we hold of the set, whole or in part, and says so in the DHT. */
  async share(set: ChunkSet): Promise<void> {
    const { have } = await this.#exchange.open(set);
    this.#parts.providers.provide(set.id, have.complete ? 'seed' : 'part');
  }

  /**
   * While the handle is not disposed of, peers are asked to send the chunks of `set` compressed against those of ours
   * that they are like. A later one replaces it.
   */
  async liken(set: ChunkSet, likeness: Likeness): Promise<Disposable> {
    const local = await this.#exchange.open(set);
    local.likeness = likeness;
    return {
      [Symbol.dispose]: () => {
        if (local.likeness === likeness) local.likeness = undefined;
      },
    };
  }

  unshare(id: CID): void {
    this.#exchange.close(id.toString());
    this.#parts.providers.withdraw(id);
  }

  /**
   * Resolves when every chunk of the set is in the store. Downloads of one set share one session, which ends when the
   * last of them is aborted. The set stays shared afterwards. Rejects with the signal's reason, or the store's error.
   */
  async download(set: ChunkSet, options: DownloadOptions): Promise<DownloadReport> {
    options.signal.throwIfAborted();
    const startedAt = performance.now();
    const local = await this.#exchange.open(set);
    options.signal.throwIfAborted();
    const session = this.#exchange.session(local);
    const total = set.bytes;
    let bytes = set.chunks.reduce((sum, { size }, index) => sum + (local.have.has(index) ? size : 0), 0);
    const onStored = (stored: number) => {
      bytes += stored;
      options.onProgress?.({ bytes, total });
    };
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(options.signal.reason);
    options.signal.addEventListener('abort', abort, { once: true });
    session.join(options.priority, onStored);
    try {
      await Promise.race([session.done.promise, aborted.promise]);
      this.#parts.providers.provide(set.id, 'copy');
      return session.report(startedAt);
    } finally {
      options.signal.removeEventListener('abort', abort);
      session.leave(options.priority, onStored);
      this.#exchange.release(local);
    }
  }

  /** From this connected peer and no other, verified; undefined when it does not have it. */
  async blockOf(peerId: string, cid: CID, { signal }: { readonly signal: AbortSignal }) {
    const [link] = await this.#ready([peerId], signal);
    return link && (await this.blocks.from(link, cid, { signal }));
  }

  /** Chunks of one set, each fetched ahead of everything else; undefined when no peer has it. */
  source(set: ChunkSet): ChunkSource {
    return { get: (cid, { signal }) => this.#urgent(set, cid, signal) };
  }

  /** Something else put the chunk into the store: the peers that want it hear of it. */
  stored(cid: CID): void {
    this.#exchange.noteStored(cid);
  }

  /** The store has the chunk no longer: it was evicted or found damaged. It is announced no more, and fetched again. */
  lost(cid: CID): void {
    this.#exchange.noteLost(cid);
  }

  /** A document of this peer was a lie, as its reader found out. Several get it banned. */
  offend(peerId: string): void {
    this.#parts.offend(peerId, 'false documents');
  }

  /** Peer ids of all that are connected. */
  connected(): string[] {
    return this.#node.getPeers().map(String);
  }

  /** Keeps us connected to a member, by these addresses from now on. */
  meet(member: KnownMember): void {
    this.#parts.dialer.meet(member);
  }

  /** It is dialled no more; a connection to it may go on. */
  forgo(peerId: string): void {
    this.#parts.dialer.forget(peerId);
  }

  /** It is no member any more: its connections end now, and it is dialled no more. */
  part(peerId: string, why: string): void {
    this.#parts.dialer.forget(peerId);
    this.#parts.cutOff(peerId, why);
  }

  /** What this node may move in any second, bytes per second, and what of the site's uplink is its share now. */
  get caps(): { readonly limits: Caps; readonly share: { readonly down: number; readonly up: number } } {
    const { down, up } = this.#exchange.throttles;
    const uplink = { down: down.limits.site, up: up.limits.site };
    return {
      limits: { down: down.limits.node, up: up.limits.node, uplink },
      share: { down: down.share, up: up.share },
    };
  }

  setCaps(caps: Caps): void {
    this.#exchange.setCaps(caps);
  }

  peers(): PeerStatus[] {
    return this.#parts.traffic.peers();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.stack.disposeAsync();
  }

  async #urgent(set: ChunkSet, cid: CID, signal: AbortSignal) {
    const index = set.indexOf(cid);
    if (index === undefined) return undefined;
    const { store } = this.#parts;
    const local = await this.#exchange.open(set);
    for (;;) {
      if (local.have.has(index)) {
        const bytes = await store.get(cid, { signal });
        if (bytes !== undefined) return bytes;
        // The store found its copy damaged, or dropped it: fetch it again.
        this.#exchange.noteLost(cid);
      }
      const session = this.#exchange.session(local);
      try {
        if (!(await session.get(index, signal))) return undefined;
      } finally {
        this.#exchange.release(local);
      }
    }
  }

  async #providers(cid: CID, signal: AbortSignal): Promise<Link[]> {
    return await this.#ready(await this.#parts.providers.connect(cid, { signal }), signal);
  }

  async #ready(peers: readonly string[], signal: AbortSignal): Promise<Link[]> {
    // A new connection's exchange stands a few round trips later.
    for (let n = 0; n < 40 && peers.some((peer) => !this.#exchange.links.get(peer)?.ready); n += 1) {
      signal.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return peers.flatMap((peer) => this.#exchange.links.get(peer) ?? []).filter((link) => link.ready);
  }
}

interface Parts {
  readonly node: SwarmNode;
  readonly likely: (peerId: string) => boolean;
  readonly site: string;
  readonly store: ChunkStore;
  readonly exchange: Exchange;
  readonly documents: Documents;
  readonly providers: Providers;
  readonly traffic: PeerTraffic;
  readonly dialer: Dialer;
  readonly offend: (peerId: string, reason: BanReason) => boolean;
  readonly cutOff: (peerId: string, why: string) => void;
  readonly stack: AsyncDisposableStack;
}

async function openParts(deps: SwarmDeps, options: SwarmOptions, events: EventEmitter<SwarmEvents>): Promise<Parts> {
  const { membership, log, store } = deps;
  const { listen, site: ownSite, mdns, dialTimeoutMs, pingMs } = { ...SWARM_DEFAULTS, ...options };
  const standing = new Standing(options.standing);
  const admits = (peer: string) => membership.member(peer) !== undefined && standing.bannedUntil(peer) === undefined;
  const mayDial = (peer: string, host: string) => membership.mayDial?.(peer, host) ?? true;
  const porter = new Porter(options.strangers);
  const node = await createNode(
    {
      ...{
        privateKey: deps.privateKey,
        gate: gate(admits, porter, mayDial),
        porter,
        admits,
        vouching: membership.vouching,
      },
      score: (peer) => -standing.offences(peer),
    },
    { listen, bootstrap: options.bootstrap ?? [], mdns, dialTimeoutMs },
  );
  await using stack = new AsyncDisposableStack();
  stack.defer(() => node.stop());
  const site = membership.member(node.peerId.toString())?.site ?? ownSite;
  const traffic = new PeerTraffic({
    node,
    membership,
    metrics: deps.metrics,
    bannedUntil: (p) => standing.bannedUntil(p),
    link: (p) => exchange.links.get(p),
  });

  const cutOff = (peerId: string, why: string) => {
    exchange.drop(peerId);
    for (const connection of node.getConnections(peerIdFromString(peerId))) connection.abort(new Error(why));
  };
  const ban = (peerId: string, reason: BanReason) => {
    events.emit('peer:ban', { peerId, until: standing.ban(peerId), reason });
    cutOff(peerId, `banned: ${reason}`);
  };
  const offend = (peerId: string, reason: BanReason): boolean => {
    const tooOften = standing.offend(peerId);
    if (tooOften) ban(peerId, reason);
    return tooOften;
  };
  const first = new Set((options.bootstrap ?? []).map((address) => address.split('/p2p/')[1]));
  const likely = (peer: string) => first.has(peer);
  const providers = stack.use(new Providers({ node, log, admits }));
  const documents = await Documents.open({ node, log, admits });
  const near = (peer: string) => membership.member(peer)?.site === site;
  const lanes = new LanePolicy(near, options.lanes);
  const port = await lanes.open(listen, log);
  if (port) stack.use(port);
  const exchange: Exchange = await Exchange.open(
    {
      node,
      store,
      log,
      near,
      lanes: { port, allowed: (peer, host) => lanes.allowed(peer, host) },
      expectedNeighbours: () => dialer.expectedNeighbours(),
      backgroundOpen: options.backgroundOpen ?? (() => true),
      onLink: (link) => {
        providers.connected();
        documents.connected(link.peerId);
      },
      onWrongBytes: (peer, cid, lane) => {
        log.warn('peer sent wrong bytes', { peer, cid: cid.toString(), lane });
        events.emit('chunk:refuse', { peerId: peer, cid });
        // By the plain lane, anybody on the way may have changed them.
        if (lane === 'plain') lanes.distrust(peer);
        else ban(peer, 'wrong bytes');
      },
      onMalformed: (peer, error) => {
        log.warn('peer sent malformed messages', { peer, error });
        if (!offend(peer, 'malformed messages')) void node.hangUp(peerIdFromString(peer)).catch(() => undefined);
      },
      onTraffic: (peer, direction, bytes) => traffic.count(peer, direction, bytes),
      likely,
      seek: (set) => void providers.connect(set.id).catch(() => undefined),
    },
    options.exchange,
  );
  stack.use(exchange);
  stack.use(new Vigil({ node, log, heardAt: (peer) => exchange.links.get(peer)?.heardAt }, { pingMs }));
  node.addEventListener('peer:connect', ({ detail }) => events.emit('peer:connect', { peerId: detail.toString() }));
  node.addEventListener('peer:disconnect', ({ detail }) =>
    events.emit('peer:disconnect', { peerId: detail.toString() }),
  );
  const members = [...(membership.members ?? []), ...(options.members ?? [])];
  const banned = (peer: string) => standing.bannedUntil(peer) !== undefined;
  const dialer = stack.use(new Dialer({ node, log, banned, expect: (host) => porter.welcome(host) }, members, site));
  const parts = { node, likely, site, store, exchange, documents, providers, traffic, dialer, offend, cutOff };
  return { ...parts, stack: stack.move() };
}
