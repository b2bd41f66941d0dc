import type { Socket } from 'node:net';
import type { Log } from '../observe/log.ts';
import { dial } from './dial.ts';
import type { Frame } from './frame.ts';
import { Inlet } from './inlet.ts';
import { bestOf, type FastKind, type FrameSink, LANE_BITS, type Lane, type LaneKind } from './lane.ts';
import type { LanePort } from './lane-port.ts';
import type { LaneRest } from './lane-rest.ts';
import { Outlet, type OutletDeps } from './outlet.ts';
import type { Ticket } from './ticket.ts';

/** What the two ends of a pair tell each other about lanes, over their control stream. `lane-moved` is the last there. */
export type LaneMessage =
  | { readonly kind: 'lane-moved' }
  | { readonly kind: 'lane-ask'; readonly lanes: number }
  | { readonly kind: 'lane-ticket'; readonly ticket: Ticket | undefined };

export interface PairLanesDeps {
  readonly peerId: string;
  /** The peer's IP address, as its libp2p connection shows it. */
  readonly host: string | undefined;
  readonly port: LanePort | undefined;
  readonly log: Log;
  readonly rest: LaneRest;
  /** Fast lanes that we would use with this peer, as bits. */
  readonly allowed: number;
  /** Shared by the lanes to all peers. */
  readonly busy: OutletDeps['busy'];
  tell(message: LaneMessage): void;
  sink(kind: FastKind): FrameSink;
  /** Our messages may leave by this socket, once `lane-moved` was said. */
  opened(socket: Socket): void;
  /** Bytes of the peer's messages that came by its fast lane. */
  heard(bytes: Uint8Array, kind: FastKind): void;
  /** A fast lane is gone, and nobody knows what of that on it arrived. The link has to be opened anew. */
  died(): void;
}

/** Dialling a peer that cannot dial us, milliseconds: it waits no longer. */
const CALL_MS = 5_000;
/** In the ticket of one who has no port: "I would, but you would have to be dialled". */
const NOTHING = new Uint8Array();

/** All lanes between us and one peer: one way out, one way in, and what has to be said about them. */
export class PairLanes {
  readonly #deps: PairLanesDeps;
  readonly #outlet: Outlet;
  readonly #inlet: Inlet;
  /** Fast lanes that the peer would use with us, as its hello says. */
  #theirs = 0;
  /** While we dial for the peer. */
  #dialling: AbortController | undefined;
  #closed = false;

  constructor(deps: PairLanesDeps) {
    this.#deps = deps;
    this.#outlet = new Outlet({ heard: deps.heard, died: deps.died, busy: deps.busy, now: () => performance.now() });
    this.#inlet = new Inlet({
      ...deps,
      lanes: () => this.#theirs & deps.allowed,
      ask: (lanes) => deps.tell({ kind: 'lane-ask', lanes }),
      invite: (ticket) => deps.tell({ kind: 'lane-ticket', ticket }),
    });
  }

  /** The fastest lane that stands, in either direction. */
  get kind(): LaneKind {
    return this.#inlet.kind === 'stream' ? this.#outlet.kind : this.#inlet.kind;
  }

  get hasStream(): boolean {
    return this.#outlet.hasStream;
  }

  attachStream(lane: Lane): void {
    this.#outlet.attachStream(lane);
  }

  /** The peer's hello names the fast lanes that it would use with us. */
  greeted(lanes: number): void {
    this.#theirs = lanes;
  }

  send(frame: Frame, options: { readonly signal: AbortSignal }): Promise<void> {
    return this.#outlet.send(frame, options);
  }

  /** We are about to ask the peer for chunks. */
  want(): void {
    this.#inlet.want();
  }

  /** Nothing comes by the fast lane, or nothing good: it dies. False when there is no fast lane to leave. */
  leave(reason: string, restMs?: number): boolean {
    return this.#inlet.leave(reason, restMs);
  }

  onMessage(message: LaneMessage): void {
    if (message.kind === 'lane-moved') this.#outlet.moved();
    else if (message.kind === 'lane-ask') this.#asked(message.lanes);
    else if (message.ticket?.diallerSends) void this.#call(message.ticket);
    else this.#inlet.onTicket(message.ticket);
  }

  close(reason: Error): void {
    this.#closed = true;
    this.#dialling?.abort(reason);
    this.#deps.port?.revoke(this.#deps.peerId);
    this.#inlet.close();
    this.#outlet.close(reason);
  }

  #asked(lanes: number): void {
    const kind = bestOf(lanes & this.#deps.allowed);
    this.#deps.tell({ kind: 'lane-ticket', ticket: kind && this.#ticket(kind) });
  }

  #ticket(kind: FastKind): Ticket | undefined {
    const { port, peerId } = this.#deps;
    if (port === undefined) return { kind, port: 0, id: NOTHING, secret: NOTHING, diallerSends: false };
    return port.issue(peerId, { kind, diallerSends: false }, (socket) => this.#outlet.attach(kind, socket));
  }

  /** The peer cannot dial us: we dial it, and send. */
  async #call(ticket: Ticket): Promise<void> {
    const { host, log, peerId } = this.#deps;
    if (host === undefined || this.#closed || this.#dialling || (this.#deps.allowed & LANE_BITS[ticket.kind]) === 0)
      return;
    this.#dialling = new AbortController();
    const signal = AbortSignal.any([this.#dialling.signal, AbortSignal.timeout(CALL_MS)]);
    const onBytes = (bytes: Uint8Array) => this.#outlet.heard(bytes);
    try {
      this.#outlet.attach(ticket.kind, await dial({ host, ticket, onBytes }, { signal }));
    } catch (error) {
      log.debug('fast lane not dialled', { peer: peerId, lane: ticket.kind, error });
    } finally {
      this.#dialling = undefined;
    }
  }
}
