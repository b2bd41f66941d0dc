import type { CID } from 'multiformats/cid';
import { matches } from '../content/chunk.ts';
import type { Encoded } from '../content/chunk-source.ts';
import { compressed } from '../content/compression.ts';
import { BadCompression } from '../delta/compression.ts';
import type { Frame } from '../lane/frame.ts';
import type { FastKind, FrameSink, Lane, LaneKind } from '../lane/lane.ts';
import { PairLanes, type PairLanesDeps } from '../lane/pair-lanes.ts';
import { FAR_PATIENCE } from '../schedule/patience.ts';
import { Window, type WindowOptions } from '../schedule/window.ts';
import type { ControlStream } from './control-stream.ts';
import { EXCHANGE_VERSION, MalformedMessage, MESSAGE_LIMITS, type Message, type Priority } from './message.ts';
import { ACCEPTED_FLAGS, allowance, FRAME_FLAGS, type Packed, type Packer, unpack } from './packing.ts';
import { RemoteSets } from './remote-sets.ts';
import { type Ask, type PendingRequest, type RequestOwner, sizeOf } from './request.ts';
import type { Throttles } from './throttle.ts';
import { Named, type Offer, type UploadSlots, Uploads } from './uploads.ts';

export interface LinkEvents {
  onReady(link: Link): void;
  onMessage(
    link: Link,
    message: Extract<Message, { kind: 'subscribe' | 'decline' | 'unsubscribe' | 'have' | 'uplink' }>,
  ): void;
  /** Over the plain lane, anybody on the way may have changed them. */
  onWrongBytes(link: Link, cid: CID, lane: LaneKind): void;
  onSent(link: Link, bytes: number): void;
  onReceived(link: Link, bytes: number): void;
  /** Our store did not have what we were asked for. */
  onMissing(cid: CID): void;
  onClose(link: Link, malformed?: Error): void;
}

export interface LinkDeps {
  readonly packer: Packer;
  readonly slots: UploadSlots;
  readonly events: LinkEvents;
  /** The chunk at a place of a set as we know it; undefined when we do not. */
  chunkAt(setKey: string, index: number): Offer | undefined;
  readonly lanes: Pick<PairLanesDeps, 'host' | 'port' | 'log' | 'allowed' | 'rest' | 'busy'>;
  readonly throttles: Throttles;
  /** A buffer for the bytes of a frame. */
  allocate(length: number): Uint8Array;
}

/** The exchange with one peer: its control stream, its lane, what it holds, what we asked of it and it of us. */
export class Link {
  readonly peerId: string;
  readonly near: boolean;
  readonly sets = new RemoteSets();
  readonly window: Window;
  readonly openedAt = performance.now();
  #deps: LinkDeps;
  #control: ControlStream | undefined;
  readonly #lanes: PairLanes;
  #greeted = false;
  /** Frame flags that the peer reads. */
  #accepts = 0;
  #closed = new AbortController();
  readonly #uploads: Uploads;
  readonly #pending = new Map<number, PendingRequest>();
  #live = 0;
  #progressAt = 0;
  #gaveUpAt = 0;
  #nextId = 1;

  constructor(
    deps: LinkDeps,
    peer: { readonly peerId: string; readonly near: boolean },
    window: Partial<WindowOptions>,
  ) {
    this.#deps = deps;
    this.peerId = peer.peerId;
    this.near = peer.near;
    this.window = new Window(peer.near ? window : { ...FAR_PATIENCE, ...window });
    this.#lanes = new PairLanes({
      ...deps.lanes,
      peerId: peer.peerId,
      tell: (message) => this.send(message),
      sink: (kind) => this.sink(kind),
      opened: (socket) => this.#control?.moveTo(socket),
      heard: (bytes, kind) => this.#heardByLane(bytes, kind),
      died: () => this.close(),
    });
    this.#uploads = new Uploads(
      {
        pack: (cid, like, { signal }) =>
          deps.packer.pack(cid, { accepts: this.#accepts, like, far: !this.near, signal }),
        slots: deps.slots,
        send: (frame, priority) => this.#sendCapped(frame, priority),
        ended: ({ missing = [], busy = [], cancelled = [] }) => this.send({ kind: 'ended', missing, busy, cancelled }),
        onSent: (bytes) => deps.events.onSent(this, bytes),
        onMissing: (cid) => deps.events.onMissing(cid),
      },
      { signal: this.#closed.signal },
    );
  }

  get closed(): boolean {
    return this.#closed.signal.aborted;
  }

  get ready(): boolean {
    return this.#greeted && this.#lanes.hasStream && !this.closed;
  }

  /** Silent for longer than it usually is while it owes us something. */
  get stalled(): boolean {
    return this.window.suspectAt < performance.now();
  }

  /** Requests that are neither answered nor given up. */
  get live(): number {
    return this.#live;
  }

  attachControl(control: ControlStream): void {
    if (this.closed) {
      control.close();
      return;
    }
    this.#control = control;
    this.send({ kind: 'hello', version: EXCHANGE_VERSION, accepts: ACCEPTED_FLAGS, lanes: this.#deps.lanes.allowed });
  }

  get hasLane(): boolean {
    return this.#lanes.hasStream;
  }

  /** The fastest lane that stands. */
  get lane(): LaneKind {
    return this.#lanes.kind;
  }

  /** The libp2p stream, which is always there; the faster lanes open and close by themselves. */
  attachLane(lane: Lane): void {
    this.#lanes.attachStream(lane);
    if (this.ready) this.#deps.events.onReady(this);
  }

  /** When the peer last said or sent anything, by `performance.now()`. */
  get heardAt(): number {
    return Math.max(this.#progressAt, this.#control?.heardAt ?? 0);
  }

  /** Bytes of messages, both ways, since this link stands. */
  get messageBytes(): number {
    return this.#control?.carried ?? 0;
  }

  send(message: Message): void {
    this.#control?.send(message);
  }

  #heardByLane(bytes: Uint8Array, kind: FastKind): void {
    try {
      this.#control?.heardByLane(bytes);
    } catch (error) {
      // Over the plain lane it may have been somebody else's.
      if (kind === 'plain') this.#deps.lanes.rest.rest(kind, performance.now(), DISTRUST_MS);
      this.close(kind === 'plain' ? undefined : (error as Error));
    }
  }

  /** We shall ask it for chunks soon. */
  prepare(): void {
    this.#lanes.want();
  }

  /** Room for the bytes was taken of the throttle by whoever asks: `sizeOf` each. */
  ask(owner: RequestOwner, asks: readonly Ask[]): PendingRequest[] {
    const now = performance.now();
    // A single block is not worth a lane.
    if (asks.some(({ place }) => place !== undefined)) this.#lanes.want();
    const requests = asks.map((ask): PendingRequest => {
      const request = {
        ...ask,
        id: this.#newId(),
        owner,
        sentAt: now,
        cancelled: false,
        arrived: false,
        settled: false,
      };
      this.#pending.set(request.id, request);
      this.#live += 1;
      this.window.asked(sizeOf(request), now);
      return request;
    });
    for (let n = 0; n < requests.length; n += MESSAGE_LIMITS.batch) {
      const items = requests.slice(n, n + MESSAGE_LIMITS.batch).map(({ id, place, cid, priority, like }) => {
        const named = (this.#accepts & FRAME_FLAGS.like) === 0 ? [] : (like?.names ?? []);
        return { id, of: place ?? { cid }, priority, like: named };
      });
      this.send({ kind: 'request', items });
    }
    return requests;
  }

  cancel(requests: readonly PendingRequest[]): void {
    const ids = requests.filter((request) => this.#giveUp(request)).map(({ id }) => id);
    for (let n = 0; n < ids.length; n += MESSAGE_LIMITS.batch) {
      this.send({ kind: 'cancel', ids: ids.slice(n, n + MESSAGE_LIMITS.batch) });
    }
  }

  /**
   * Nothing came for too long: less is asked of it. When it happens again before anything comes, the fast lane may be to
   * blame, and the link goes with it: true then.
   */
  giveUp(): boolean {
    if (this.#progressAt < this.#gaveUpAt && this.#lanes.leave('nothing came')) return true;
    this.#gaveUpAt = performance.now();
    this.window.shrink();
    return false;
  }

  onProgress(bytes: number): void {
    this.#progressAt = performance.now();
    this.window.progress(this.#progressAt);
    this.#deps.events.onReceived(this, bytes);
  }

  /** Sends a frame when the rate caps let it. */
  async #sendCapped(frame: Frame, priority: Priority): Promise<void> {
    const { signal } = this.#closed;
    const { length } = frame.bytes;
    const grant = await this.#deps.throttles.up.turn({ near: this.near, bytes: length, priority }, { signal });
    try {
      await this.#lanes.send(frame, { signal });
      grant.moved(length);
    } catch (error) {
      grant.dropped();
      throw error;
    }
  }

  /** Where the frames of one lane go. */
  sink(kind: LaneKind): FrameSink {
    return {
      allow: (request, flags) => this.#allow(request, flags),
      allocate: this.#deps.allocate,
      onFrame: (frame) => this.#onFrame(frame, kind),
      onProgress: (bytes) => this.onProgress(bytes),
    };
  }

  /** Most bytes that a lane frame may carry: what was asked for, and no flag that we did not accept. */
  #allow(request: number, flags: number): number {
    const pending = this.#pending.get(request);
    return pending === undefined || pending.arrived ? 0 : allowance(pending, flags);
  }

  #onFrame({ request: id, flags, bytes }: Frame, lane: LaneKind): void {
    const request = this.#pending.get(id);
    if (request === undefined) return;
    this.#settle(request, bytes.length);
    if (flags === 0) this.#arrived(request, bytes, lane);
    else void this.#unpack(request, { flags, bytes }, lane);
  }

  /** Outstanding in the window until it is plain, which is what bounds the frames that wait for it. */
  async #unpack(request: PendingRequest, packed: Packed, lane: LaneKind): Promise<void> {
    request.arrived = true;
    const { signal } = this.#closed;
    const plain = await unpack(request, packed, signal).catch((error: unknown) => error);
    const encoded = plain instanceof Uint8Array ? await keepable(packed, plain) : undefined;
    // The link may have closed meanwhile, and has told its owner.
    if (this.#pending.get(request.id) !== request) return;
    if (plain instanceof Uint8Array) {
      this.#arrived(request, plain, lane, encoded);
    } else if (plain instanceof BadCompression) {
      this.#arrived(request, undefined, lane);
    } else {
      // We have lost, or cannot read, what it was compressed against. It is asked for again, as it is.
      this.#ended({ kind: 'ended', missing: [], busy: [], cancelled: [request.id] });
    }
  }

  /** `bytes` are plain, and may be wrong; undefined when there are none in what came. */
  #arrived(request: PendingRequest, bytes: Uint8Array | undefined, lane: LaneKind, encoded?: Encoded): void {
    this.#pending.delete(request.id);
    const now = performance.now();
    if (!request.cancelled) {
      this.#live -= 1;
      this.window.delivered(sizeOf(request), now - request.sentAt, now);
    }
    if (bytes !== undefined && matches(request.cid, bytes)) {
      request.owner.bytes(this, request, bytes, encoded);
      return;
    }
    this.#deps.events.onWrongBytes(this, request.cid, lane);
    if (!request.cancelled) request.owner.ended(this, request, 'corrupt');
    if (lane === 'plain') this.#lanes.leave('wrong bytes', DISTRUST_MS);
  }

  /** @throws MalformedMessage when the peer breaks the protocol. */
  onMessage(message: Message): void {
    if (!this.#greeted) {
      if (message.kind !== 'hello' || message.version < 1) throw new MalformedMessage('no hello');
      this.#greeted = true;
      this.#accepts = message.accepts;
      this.#lanes.greeted(message.lanes);
      if (this.ready) this.#deps.events.onReady(this);
      return;
    }
    switch (message.kind) {
      case 'hello':
        throw new MalformedMessage('a second hello');
      case 'request':
        this.#uploads.request(message.items.map((item) => ({ ...item, offer: this.#resolve(item.of) })));
        break;
      case 'cancel':
        this.#uploads.cancel(message.ids);
        break;
      case 'ended':
        this.#ended(message);
        break;
      case 'lane-moved':
      case 'lane-ask':
      case 'lane-ticket':
        this.#lanes.onMessage(message);
        break;
      default:
        this.#deps.events.onMessage(this, message);
    }
  }

  close(malformed?: Error): void {
    if (this.closed) return;
    const reason = malformed ?? new Error('link closed');
    this.#closed.abort(reason);
    this.#control?.close(reason);
    this.#lanes.close(reason);
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    this.#live = 0;
    for (const request of pending) this.#settle(request, 0);
    this.#deps.events.onClose(this, malformed);
    for (const request of pending) if (!request.cancelled) request.owner.ended(this, request, 'closed');
  }

  #resolve(of: { handle: number; index: number } | { cid: CID }): Offer | undefined {
    if ('cid' in of) return new Named(of.cid);
    const set = this.sets.byHandle(of.handle);
    return set && this.#deps.chunkAt(set.key, of.index);
  }

  #ended({ missing, busy, cancelled }: Extract<Message, { kind: 'ended' }>): void {
    const reasons = [
      [missing, 'missing'],
      [busy, 'busy'],
      [cancelled, 'cancelled'],
    ] as const;
    if (busy.length > 0) this.window.shrink();
    for (const [ids, reason] of reasons) {
      for (const id of ids) {
        const request = this.#pending.get(id);
        if (request === undefined) continue;
        const known = request.cancelled;
        this.#giveUp(request);
        this.#pending.delete(id);
        this.#settle(request, 0);
        if (!known) request.owner.ended(this, request, reason);
      }
    }
  }

  /** What came of the bytes that were admitted for it. A request that was given up may still bring them. */
  #settle(request: PendingRequest, bytes: number): void {
    if (request.settled) return;
    request.settled = true;
    const { down } = this.#deps.throttles;
    if (bytes > 0) down.arrived(this.near, sizeOf(request), bytes);
    else down.dropped(this.near, sizeOf(request));
  }

  #giveUp(request: PendingRequest): boolean {
    if (request.cancelled || !this.#pending.has(request.id)) return false;
    request.cancelled = true;
    this.#live -= 1;
    this.window.released(sizeOf(request));
    return true;
  }

  #newId(): number {
    const id = this.#nextId;
    this.#nextId = (this.#nextId + 1) >>> 0;
    return id;
  }
}

/** What came compressed is kept so: as it came, or anew when that can only be read together with other chunks. */
async function keepable({ flags, bytes }: Packed, plain: Uint8Array): Promise<Encoded | undefined> {
  return flags === FRAME_FLAGS.zstd ? { encoding: 'zstd', bytes } : await compressed(plain);
}

/** A plain lane that brought wrong bytes is not used for so long, milliseconds; the others prove who sent what. */
const DISTRUST_MS = 3_600_000;
