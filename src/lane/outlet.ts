import type { Socket } from 'node:net';
import type { Frame } from './frame.ts';
import type { FastKind, Lane, LaneKind } from './lane.ts';
import { LaneChoice } from './lane-choice.ts';
import { SocketLane } from './socket-lane.ts';

export interface OutletDeps {
  /** Frames of these requests left by a lane that is gone, and may not have arrived: the peer has to ask again. */
  lost(requests: readonly number[]): void;
  now(): number;
}

/** Where chunk bytes leave for one peer: by its fast lane while there is one, else by the libp2p stream. */
export class Outlet {
  readonly #deps: OutletDeps;
  readonly #stream = Promise.withResolvers<Lane>();
  #streamLane: Lane | undefined;
  #fast: SocketLane | undefined;
  #choice = new LaneChoice();
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

  /** A proven connection; it replaces the one before. */
  attach(kind: FastKind, socket: Socket): void {
    if (this.#closed) {
      socket.destroy();
      return;
    }
    this.#fast?.close();
    this.#choice = new LaneChoice();
    const lane = new SocketLane(kind, socket, (left) => {
      if (this.#fast === lane) this.#fast = undefined;
      if (left.length > 0 && !this.#closed) this.#deps.lost(left);
    });
    this.#fast = lane;
  }

  /** Resolves when another frame can be taken; rejects when the peer cannot be sent anything any more. */
  async send(frame: Frame, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    const fast = this.#choice.fast ? this.#fast : undefined;
    this.#waiting += 1;
    try {
      const left = fast !== undefined && (await this.#attempt(fast, frame));
      // What a dying lane still had in hand is sent again by the stream, and not asked for again.
      if (!left) await (this.#streamLane ?? (await this.#stream.promise)).send(frame, { signal });
      this.#note(left ? 'fast' : 'stream', frame.bytes.length);
    } finally {
      this.#waiting -= 1;
    }
  }

  /** The peer does not read the fast lane any more. */
  leave(): void {
    this.#fast?.close();
  }

  close(reason: Error): void {
    this.#closed = true;
    this.#stream.reject(reason);
    this.#streamLane?.close(reason);
    this.#fast?.close();
  }

  async #attempt(lane: SocketLane, frame: Frame): Promise<boolean> {
    try {
      await lane.send(frame);
      return true;
    } catch (error) {
      if (this.#closed) throw error;
      return false;
    }
  }

  #note(by: 'fast' | 'stream', bytes: number): void {
    if (this.#fast === undefined) return;
    this.#choice.sent(by, bytes, this.#waiting - 1, this.#deps.now());
    if (this.#choice.slow) this.leave();
  }
}
