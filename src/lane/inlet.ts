import type { Socket } from 'node:net';
import type { Log } from '../observe/log.ts';
import { dial } from './dial.ts';
import { bestOf, type FastKind, type FrameSink, LANE_BITS, type LaneKind } from './lane.ts';
import type { LanePort } from './lane-port.ts';
import type { LaneRest } from './lane-rest.ts';
import { framesInto } from './socket-lane.ts';
import type { Ticket } from './ticket.ts';

export interface InletDeps {
  readonly peerId: string;
  /** The peer's IP address, as its libp2p connection shows it; undefined when it shows none. */
  readonly host: string | undefined;
  /** Where the peer may dial us, when we cannot dial it. */
  readonly port: LanePort | undefined;
  readonly log: Log;
  /** What failed with this peer before. */
  readonly rest: LaneRest;
  /** Fast lanes that both ends would use, as bits. */
  lanes(): number;
  /** Asks the peer for a ticket for one of these. */
  ask(lanes: number): void;
  /** Asks the peer to dial us. */
  invite(ticket: Ticket): void;
  /** For frames that come by a lane of this kind. */
  sink(kind: FastKind): FrameSink;
  /** A lane stands, and what we have to say may leave by it. */
  opened(socket: Socket): void;
  /** The lane is gone, with whatever was on it. */
  died(): void;
}

/** Each step of opening a lane, milliseconds: nothing waits for it, and both ends may be busy. */
const STEP_MS = 5_000;
/** A peer that gives no ticket is not asked again for this long, milliseconds. */
const REFUSED_MS = 30_000;

/**
 * Where chunk bytes from one peer arrive besides the libp2p stream. Who wants the bytes dials, since only a dialled
 * socket reads into a buffer of ours; where it cannot, it has itself dialled. Our messages travel against the chunks,
 * where nothing large is in their way. Nothing waits for a fast lane: until one stands, and whenever none can, the
 * libp2p streams carry everything. One that dies takes the link with it, which is opened anew.
 */
export class Inlet {
  readonly #deps: InletDeps;
  /** Ends what is being opened; made only then. */
  #abort: AbortController | undefined;
  #closed = false;
  #open: { readonly kind: FastKind; readonly socket: Socket } | undefined;
  /** Asked again not before, by `performance.now()`. */
  #nextTry = 0;
  #answered: ((ticket: Ticket | undefined | 'late') => void) | undefined;

  constructor(deps: InletDeps) {
    this.#deps = deps;
  }

  get kind(): LaneKind {
    return this.#open?.kind ?? 'stream';
  }

  /** We are about to ask the peer for chunks: a fast lane would be welcome. */
  want(): void {
    if (this.#open !== undefined || this.#abort !== undefined || this.#closed) return;
    const now = performance.now();
    if (now < this.#nextTry || this.#lanes(now) === 0) return;
    const abort = new AbortController();
    this.#abort = abort;
    void this.#tryAll(abort.signal)
      .catch((error: unknown) => this.#deps.log.debug('fast lane not opened', { peer: this.#deps.peerId, error }))
      .finally(() => {
        this.#abort = undefined;
      });
  }

  /** The answer to our last question; `undefined`: the peer gives none. */
  onTicket(ticket: Ticket | undefined): void {
    this.#answered?.(ticket);
  }

  /** Gives the open lane up for `restMs`, or as its failures say. False when there was none. */
  leave(reason: string, restMs?: number): boolean {
    const open = this.#open;
    if (open === undefined) return false;
    this.#lost(open.kind, reason, restMs);
    open.socket.destroy();
    return true;
  }

  close(): void {
    this.#closed = true;
    this.#abort?.abort(new Error('link closed'));
    this.#open?.socket.destroy();
    this.#open = undefined;
  }

  #lanes(now: number): number {
    return this.#deps.rest.awake(this.#deps.lanes(), now);
  }

  async #tryAll(signal: AbortSignal): Promise<void> {
    for (;;) {
      const lanes = this.#lanes(performance.now());
      if (bestOf(lanes) === undefined) return;
      const ticket = await this.#ticket(lanes);
      if (this.#closed) return;
      if (ticket === 'late') {
        // It has too much to do, which says nothing of what it would.
        this.#nextTry = performance.now() + STEP_MS;
        return;
      }
      if (ticket === undefined || (LANE_BITS[ticket.kind] & lanes) === 0) {
        this.#nextTry = performance.now() + REFUSED_MS;
        return;
      }
      const socket = (await this.#dial(ticket, signal)) ?? (await this.#invite(ticket.kind));
      if (socket !== undefined) return this.#attach(ticket.kind, socket);
      this.#deps.rest.rest(ticket.kind, performance.now());
    }
  }

  async #ticket(lanes: number): Promise<Ticket | undefined | 'late'> {
    const { promise, resolve } = Promise.withResolvers<Ticket | undefined | 'late'>();
    const timer = setTimeout(resolve, STEP_MS, 'late' as const);
    this.#answered = resolve;
    this.#deps.ask(lanes);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#answered = undefined;
    }
  }

  async #dial(ticket: Ticket, closing: AbortSignal): Promise<Socket | undefined> {
    const { host } = this.#deps;
    if (host === undefined || ticket.port === 0) return undefined;
    const signal = AbortSignal.any([closing, AbortSignal.timeout(STEP_MS)]);
    try {
      return await dial({ host, ticket, onBytes: framesInto(this.#deps.sink(ticket.kind)) }, { signal });
    } catch (error) {
      this.#deps.log.debug('fast lane not dialled', { peer: this.#deps.peerId, lane: ticket.kind, error });
      return undefined;
    }
  }

  /** Has the peer dial us. Such a socket reads by events, at a higher cost. */
  async #invite(kind: FastKind): Promise<Socket | undefined> {
    const { promise, resolve } = Promise.withResolvers<Socket | undefined>();
    let open = true;
    const ticket = this.#deps.port?.issue(this.#deps.peerId, { kind, diallerSends: true }, (socket) => {
      if (!open || this.#closed) {
        socket.destroy();
        return;
      }
      const receive = framesInto(this.#deps.sink(kind));
      socket.on('data', (bytes: Uint8Array) => {
        try {
          receive(bytes);
        } catch (error) {
          socket.destroy(error as Error);
        }
      });
      resolve(socket);
    });
    if (ticket === undefined || this.#closed) return undefined;
    const timer = setTimeout(resolve, STEP_MS, undefined);
    this.#deps.invite(ticket);
    try {
      return await promise;
    } finally {
      open = false;
      clearTimeout(timer);
    }
  }

  #attach(kind: FastKind, socket: Socket): void {
    if (this.#closed || socket.destroyed) {
      socket.destroy();
      return;
    }
    const open = { kind, socket };
    this.#open = open;
    let cause: Error | undefined;
    socket.on('error', (error) => {
      cause = error;
    });
    socket.once('close', () => {
      if (this.#open !== open) return;
      this.#lost(kind, cause?.message ?? 'closed by the peer');
    });
    this.#deps.opened(socket);
  }

  #lost(kind: FastKind, reason: string, restMs?: number): void {
    this.#open = undefined;
    this.#deps.rest.rest(kind, performance.now(), restMs);
    this.#deps.log.info('fast lane left', { peer: this.#deps.peerId, lane: kind, reason });
    this.#deps.died();
  }
}
