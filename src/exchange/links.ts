import type { Connection, Libp2p, Stream } from '@libp2p/interface';
import type { Multiaddr } from '@multiformats/multiaddr';
import type { BufferPool } from '../content/buffer-pool.ts';
import type { ChunkStore } from '../content/chunk-source.ts';
import type { LanePort } from '../lane/lane-port.ts';
import { LaneRest } from '../lane/lane-rest.ts';
import { LANE_PROTOCOL, StreamLane } from '../lane/stream-lane.ts';
import type { Log } from '../observe/log.ts';
import type { WindowOptions } from '../schedule/window.ts';
import { ControlStream, EXCHANGE_PROTOCOL } from './control-stream.ts';
import { Link, type LinkDeps, type LinkEvents } from './link.ts';
import { MalformedMessage } from './message.ts';
import { Packer } from './packing.ts';
import type { RecentChunks } from './recent.ts';
import type { Throttles } from './throttle.ts';
import { UploadSlots } from './uploads.ts';

export interface LinksDeps {
  readonly node: Libp2p;
  readonly store: ChunkStore;
  readonly log: Log;
  readonly buffers: BufferPool;
  readonly recent: RecentChunks;
  readonly events: LinkEvents;
  /** Of our site? */
  near(peerId: string): boolean;
  chunkAt: ConstructorParameters<typeof Link>[0]['chunkAt'];
  readonly lanes: LanesPolicy;
  readonly throttles: Throttles;
}

/** Which fast lanes may be used, beside the libp2p stream. */
export interface LanesPolicy {
  /** Where peers open fast lanes to us; without one we can only dial. */
  readonly port: LanePort | undefined;
  /** Fast lanes for this peer, as bits; `host` is where its libp2p connection comes from. */
  allowed(peerId: string, host: string | undefined): number;
}

/** From the connection to a peer that talks, milliseconds. */
const OPEN_TIMEOUT_MS = 5_000;
/** Pause before streams that broke are opened again, milliseconds. */
const REOPEN_MS = 250;
/** Neighbours whose fast lanes are opened before anything is asked of them: a download that starts finds them there… */
const STANDING_LANES = 64;
/** …so many at a time. */
const LANES_AT_A_TIME = 4;
/** Peers whose failed lanes are remembered, the oldest forgotten first. */
const MAX_RESTS = 1024;

/** One link per connected peer. Of a pair, the one with the smaller peer id opens the streams. */
export class Links implements Disposable {
  readonly #links = new Map<string, Link>();
  readonly #rests = new Map<string, LaneRest>();
  readonly #busy: LinkDeps['lanes']['busy'] = new Set();
  readonly #deps: LinksDeps;
  readonly #window: Partial<WindowOptions>;
  /** Those for peers outside may wait for the uplink, and keep nothing from neighbours. */
  readonly #slots: Readonly<Record<'near' | 'far', UploadSlots>>;
  readonly #packer: Packer;
  readonly #self: string;
  #prepared = 0;
  readonly #abort = new AbortController();

  private constructor(deps: LinksDeps, window: Partial<WindowOptions>) {
    this.#deps = deps;
    this.#window = window;
    this.#packer = new Packer(deps.store, deps.recent);
    const { up } = deps.throttles;
    this.#slots = { near: new UploadSlots(() => up.slots(true)), far: new UploadSlots(() => up.slots(false)) };
    this.#self = deps.node.peerId.toString();
  }

  static async open(deps: LinksDeps, window: Partial<WindowOptions>): Promise<Links> {
    const links = new Links(deps, window);
    const { node } = deps;
    const limits = { maxInboundStreams: 4, maxOutboundStreams: 4 };
    await node.handle(
      LANE_PROTOCOL,
      (stream, { remotePeer }) => links.#acceptLane(stream, remotePeer.toString()),
      limits,
    );
    await node.handle(EXCHANGE_PROTOCOL, (stream, connection) => links.#accept(stream, connection), limits);
    node.addEventListener('connection:open', ({ detail }) => links.#connected(detail));
    for (const connection of node.getConnections()) links.#connected(connection);
    return links;
  }

  get(peerId: string): Link | undefined {
    return this.#links.get(peerId);
  }

  all(): Link[] {
    return [...this.#links.values()];
  }

  /** Those that can be asked. */
  ready(): Link[] {
    return this.all().filter((link) => link.ready);
  }

  /** Opens the fast lanes of the next few neighbours that have none. */
  prepareSome(): void {
    const neighbours = this.ready().filter(({ near }) => near);
    const some = Math.min(STANDING_LANES, neighbours.length);
    for (let n = 0; n < Math.min(LANES_AT_A_TIME, some); n += 1) neighbours[this.#prepared++ % some]?.prepare();
  }

  /** Closes links that never came to stand, so that another attempt has room. */
  closeUnready(now: number): void {
    for (const link of this.all()) if (!link.ready && now - link.openedAt > 2 * OPEN_TIMEOUT_MS) link.close();
  }

  [Symbol.dispose](): void {
    this.#abort.abort();
    for (const link of this.all()) link.close();
  }

  #connected(connection: Connection): void {
    const peer = connection.remotePeer.toString();
    if (this.#self < peer) void this.#open(connection, peer);
  }

  async #open(connection: Connection, peer: string): Promise<void> {
    if (this.#links.has(peer) || this.#abort.signal.aborted || connection.status !== 'open') return;
    const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(OPEN_TIMEOUT_MS)]);
    const link = this.#add(peer, connection);
    try {
      link.attachControl(this.#control(await connection.newStream(EXCHANGE_PROTOCOL, { signal }), link));
      link.attachLane(this.#lane(await connection.newStream(LANE_PROTOCOL, { signal }), link));
    } catch (error) {
      this.#deps.log.debug('exchange not opened', { peer, error });
      link.close();
    }
  }

  #accept(stream: Stream, connection: Connection): void {
    const peer = connection.remotePeer.toString();
    if (this.#self < peer) {
      stream.abort(new Error('the exchange is ours to open'));
      return;
    }
    this.#links.get(peer)?.close();
    const link = this.#add(peer, connection);
    link.attachControl(this.#control(stream, link));
  }

  #acceptLane(stream: Stream, peer: string): void {
    const link = this.#links.get(peer);
    if (link && !link.hasLane && this.#self > peer) link.attachLane(this.#lane(stream, link));
    else stream.abort(new Error('no exchange to carry'));
  }

  #control(stream: Stream, link: Link): ControlStream {
    return new ControlStream(stream, {
      onMessage: (message) => link.onMessage(message),
      onClose: (error) => link.close(error instanceof MalformedMessage ? error : undefined),
    });
  }

  #lane(stream: Stream, link: Link): StreamLane {
    return new StreamLane(stream, {
      ...link.sink('stream'),
      onClose: (malformed) => link.close(malformed),
    });
  }

  #add(peerId: string, { remoteAddr }: Connection): Link {
    const { chunkAt, events, lanes, log, buffers, throttles } = this.#deps;
    const near = this.#deps.near(peerId);
    const host = hostOf(remoteAddr);
    const onClose: LinkEvents['onClose'] = (link, malformed) => {
      if (this.#links.get(peerId) === link) this.#links.delete(peerId);
      events.onClose(link, malformed);
      if (!malformed) setTimeout(() => this.#reopen(peerId), REOPEN_MS).unref();
    };
    const link = new Link(
      {
        packer: this.#packer,
        chunkAt,
        slots: near ? this.#slots.near : this.#slots.far,
        throttles,
        events: { ...events, onClose },
        allocate: (length) => buffers.take(length),
        lanes: {
          ...{ host, port: lanes.port, log, busy: this.#busy },
          ...{ allowed: lanes.allowed(peerId, host), rest: this.#restOf(peerId) },
        },
      },
      { peerId, near },
      this.#window,
    );
    this.#links.set(peerId, link);
    return link;
  }

  #restOf(peerId: string): LaneRest {
    const rest = this.#rests.get(peerId) ?? new LaneRest();
    this.#rests.delete(peerId);
    this.#rests.set(peerId, rest);
    const [oldest] = this.#rests.keys();
    if (this.#rests.size > MAX_RESTS && oldest !== undefined) this.#rests.delete(oldest);
    return rest;
  }

  /** The connection may have outlived its streams, or a second one may stand. */
  #reopen(peerId: string): void {
    const connection = this.#deps.node.getConnections().find((one) => one.remotePeer.toString() === peerId);
    if (connection) this.#connected(connection);
  }
}

/** The IP address of a direct connection. */
function hostOf(address: Multiaddr): string | undefined {
  const [host] = address.getComponents();
  return host?.name === 'ip4' || host?.name === 'ip6' ? host.value : undefined;
}
