import type { Socket } from 'node:net';
import type { Frame } from './frame.ts';
import type { FastKind, Lane, LaneKind } from './lane.ts';
import { LaneChoice } from './lane-choice.ts';
import { SocketLane } from './socket-lane.ts';

export interface OutletDeps {
  /** Bytes of the peer's messages that came by the fast lane. */
  heard(bytes: Uint8Array, kind: FastKind): void;
  /** The fast lane is gone: what left by it may not have arrived. */
  died(): void;
  /** Outlets with frames that wait, to all peers. While there are others, our link is shared, and slow means nothing. */
  readonly busy: Set<Outlet>;
  now(): number;
}

/** Bytes of messages that may overtake the word that they come by the fast lane. */
const MAX_EARLY_BYTES = 1024 * 1024;

/** Where chunk bytes leave for one peer: by its fast lane while there is one, else by the libp2p stream. */
export class Outlet {
  readonly #deps: OutletDeps;
  readonly #stream = Promise.withResolvers<Lane>();
  readonly #choice = new LaneChoice();
  #streamLane: Lane | undefined;
  #fast: SocketLane | undefined;
  /** The peer's messages come by its fast lane, which may not have been proven yet. */
  #moved = false;
  /** Those that came by it before we knew. */
  #early: Uint8Array[] = [];
  #earlyBytes = 0;
  #waiting = 0;
  #closed = false;

  constructor(deps: OutletDeps) {
    this.#deps = deps;
    this.#stream.promise.catch(() => undefined);
  }

  get kind(): LaneKind {
    return this.#fast?.kind ?? 'stream';
  }

  get hasStream(): boolean {
    return this.#streamLane !== undefined;
  }

  attachStream(lane: Lane): void {
    if (this.#closed) {
      lane.close();
      return;
    }
    this.#streamLane = lane;
    this.#stream.resolve(lane);
  }

  /** A proven connection. There is one in a link's life: a peer that opens another has lost the first. */
  attach(kind: FastKind, socket: Socket): void {
    if (this.#closed || this.#fast !== undefined) {
      socket.destroy();
      if (!this.#closed) this.#deps.died();
      return;
    }
    this.#fast = new SocketLane(kind, socket, {
      onBytes: (bytes) => this.heard(bytes),
      onClose: () => {
        if (!this.#closed) this.#deps.died();
      },
    });
    this.#hear();
  }

  /** The peer said this by its fast lane. */
  heard(bytes: Uint8Array): void {
    if (this.#moved && this.#fast !== undefined) {
      this.#deps.heard(bytes, this.#fast.kind);
      return;
    }
    this.#early.push(Uint8Array.from(bytes));
    this.#earlyBytes += bytes.length;
    if (this.#earlyBytes > MAX_EARLY_BYTES) this.#deps.died();
  }

  /** What the peer says comes by the fast lane from now on. */
  moved(): void {
    this.#moved = true;
    this.#hear();
  }

  /** Resolves when another frame can be taken; rejects when the lane is gone. */
  async send(frame: Frame, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    const fast = this.#choice.fast ? this.#fast : undefined;
    this.#waiting += 1;
    this.#deps.busy.add(this);
    try {
      if (fast !== undefined) await fast.send(frame);
      else await (this.#streamLane ?? (await this.#stream.promise)).send(frame, { signal });
      this.#note(fast !== undefined ? 'fast' : 'stream', frame.bytes.length);
    } finally {
      this.#waiting -= 1;
      if (this.#waiting === 0) this.#deps.busy.delete(this);
    }
  }

  close(reason: Error): void {
    this.#closed = true;
    this.#stream.reject(reason);
    this.#streamLane?.close(reason);
    this.#fast?.close();
  }

  #hear(): void {
    if (!this.#moved || this.#fast === undefined) return;
    for (const bytes of this.#early.splice(0)) this.#deps.heard(bytes, this.#fast.kind);
  }

  #note(by: 'fast' | 'stream', bytes: number): void {
    if (this.#fast === undefined) return;
    const alone = this.#deps.busy.size === 1;
    this.#choice.sent(by, bytes, alone ? this.#waiting - 1 : 0, this.#deps.now());
    if (this.#choice.slow) this.#fast.close();
  }
}
