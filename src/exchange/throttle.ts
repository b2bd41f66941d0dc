import { DEFAULT_CHUNK_SIZES } from '../content/chunker.ts';
import { TrafficCap, type TrafficLimits } from '../limits/traffic-cap.ts';
import type { Priority } from './message.ts';

/** Bytes that want to move, and how urgently. */
export interface Move {
  /** With a peer of our site. */
  readonly near: boolean;
  readonly bytes: number;
  readonly priority: Priority;
}

/** Room for a `Move` that was granted: `moved` or `dropped` is called once. */
export interface Grant {
  /** So many bytes did move. */
  moved(bytes: number): void;
  dropped(): void;
}

/** Both directions. */
export interface Throttles {
  readonly down: Throttle;
  readonly up: Throttle;
}

/** What chunks and manifest nodes may take in any second, bytes per second. @default no limits */
export interface Caps {
  /** This node, to or from all peers. */
  readonly down?: number | undefined;
  readonly up?: number | undefined;
  /** All nodes of the site together, to or from peers outside of it: the same on each of them. */
  readonly uplink?: { readonly down?: number | undefined; readonly up?: number | undefined };
}

export function throttlesOf({ down, up, uplink = {} }: Caps): Throttles {
  return {
    down: new Throttle({ node: down, site: uplink.down }),
    up: new Throttle({ node: up, site: uplink.up }),
  };
}

/** Other caps from now on. */
export function setCaps(throttles: Throttles, { down, up, uplink = {} }: Caps): void {
  throttles.down.setLimits({ node: down, site: uplink.down });
  throttles.up.setLimits({ node: up, site: uplink.up });
}

interface Waiter extends Move {
  readonly granted: PromiseWithResolvers<void>;
}

const RANKS: Readonly<Record<Priority, number>> = { urgent: 0, foreground: 1, background: 2 };
/** A moment's chunks where nothing is capped… */
const MOST_SLOTS = 32;
/** …else as many usual ones as the caps let through within so long, ms. */
const SLOTS_MS = 200;
const USUAL_CHUNK_BYTES = DEFAULT_CHUNK_SIZES.average;
/** Shares of the uplink change with time and with what neighbours say: looked at this often while somebody waits, ms. */
const LOOK_MS = 100;

/**
 * Lets bytes move in one direction as far as rate caps allow. Those that must move wait here for their turn, the more
 * urgent first, then in their order; what may as well not be asked for (`admit`) never overtakes them.
 */
export class Throttle implements Disposable {
  readonly #cap: TrafficCap;
  readonly #waiting: Waiter[] = [];
  #timer: NodeJS.Timeout | undefined;
  /** What was refused last: when it fits, it is worth asking again. */
  #refused: Omit<Move, 'priority'> | undefined;
  #usedUplinkAt = Number.NEGATIVE_INFINITY;

  constructor(limits: TrafficLimits = {}) {
    this.#cap = new TrafficCap(limits);
  }

  get limits(): TrafficLimits {
    return this.#cap.limits;
  }

  setLimits(limits: TrafficLimits): void {
    this.#cap.setLimits(limits, performance.now());
    this.#pump();
  }

  /** This node's share of the uplink now, bytes per second. */
  get share(): number {
    return this.#cap.share(performance.now());
  }

  /** Chunks that may move in a moment from or to such peers: more in hand would keep others from overtaking them. */
  slots(near: boolean): number {
    const { node = Number.POSITIVE_INFINITY } = this.#cap.limits;
    const rate = near ? node : Math.min(node, this.share);
    return Math.max(1, Math.min(MOST_SLOTS, Math.ceil((rate * SLOTS_MS) / 1000 / USUAL_CHUNK_BYTES)));
  }

  /** Others that use the uplink in this direction, and whether there are any that could. */
  heard(view: { readonly uses: boolean; readonly others: number; readonly alone: boolean }): void {
    this.#cap.update(view, performance.now());
    this.#pump();
  }

  /** Bytes moved across the uplink, or wanted to, within the last `ms`. */
  usedUplink(ms: number): boolean {
    return performance.now() - this.#usedUplinkAt < ms;
  }

  /** Takes room for the bytes if there is some and nobody waits for it. Later `arrived` or `dropped` is called. */
  admit(near: boolean, bytes: number): boolean {
    const now = performance.now();
    if (!near) this.#usedUplinkAt = now;
    // Who waits for the uplink holds up only those that need it as well.
    const waits = this.#waiting.some((other) => !near || other.near || this.#cap.uplinkFits(other.bytes, now));
    const free = !waits && this.#cap.fits(near, bytes, now);
    if (free) this.#cap.take(near, bytes, now);
    else this.#refused = { near, bytes };
    return free;
  }

  /** When what was refused since the last call will be admitted, by `performance.now()`; Infinity when nothing was. */
  takeWakeAt(): number {
    const refused = this.#refused;
    this.#refused = undefined;
    if (refused === undefined) return Number.POSITIVE_INFINITY;
    const now = performance.now();
    return Math.min(now + LOOK_MS, this.#cap.fitsAt(refused.near, refused.bytes, now));
  }

  /** Of `taken` bytes that were admitted so many came. */
  arrived(near: boolean, taken: number, bytes: number): void {
    this.#cap.moved(near, taken, bytes, performance.now());
  }

  /** Bytes that were admitted will not come. */
  dropped(near: boolean, taken: number): void {
    this.#cap.released(near, taken);
    this.#pump();
  }

  /** Resolves when it is the bytes' turn to move. Rejects with the signal's reason. */
  async turn(move: Move, { signal }: { readonly signal: AbortSignal }): Promise<Grant> {
    signal.throwIfAborted();
    const { near, bytes } = move;
    const now = performance.now();
    if (this.#waiting.length === 0 && this.#cap.fits(near, bytes, now)) {
      if (!near) this.#usedUplinkAt = now;
      this.#cap.take(near, bytes, now);
    } else await this.#wait(move, signal);
    return {
      moved: (count) => this.arrived(near, bytes, count),
      dropped: () => this.dropped(near, bytes),
    };
  }

  /** Resolves when it is their turn, and they have room. */
  async #wait(move: Move, signal: AbortSignal): Promise<void> {
    const waiter = { ...move, granted: Promise.withResolvers<void>() };
    const abort = () => {
      const at = this.#waiting.indexOf(waiter);
      if (at !== -1) this.#waiting.splice(at, 1);
      waiter.granted.reject(signal.reason);
    };
    signal.addEventListener('abort', abort, { once: true });
    const behind = this.#waiting.findIndex(({ priority }) => RANKS[priority] > RANKS[move.priority]);
    this.#waiting.splice(behind === -1 ? this.#waiting.length : behind, 0, waiter);
    this.#pump();
    try {
      await waiter.granted.promise;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const { granted } of this.#waiting.splice(0)) granted.reject(new Error('the exchange was closed'));
  }

  /** Grants what fits, in order: only what waits for the uplink is overtaken, by what does not need it. */
  #pump(): void {
    clearTimeout(this.#timer);
    const now = performance.now();
    let at = Number.POSITIVE_INFINITY;
    let uplinkBusy = false;
    for (const waiter of [...this.#waiting]) {
      const { near, bytes, granted } = waiter;
      if (!near) this.#usedUplinkAt = now;
      if (!near && uplinkBusy) continue;
      if (this.#cap.fits(near, bytes, now)) {
        this.#cap.take(near, bytes, now);
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        granted.resolve();
        continue;
      }
      at = Math.min(at, this.#cap.fitsAt(near, bytes, now));
      if (near || this.#cap.uplinkFits(bytes, now)) break;
      uplinkBusy = true;
    }
    if (this.#waiting.length === 0) return;
    this.#timer = setTimeout(() => this.#pump(), Math.max(1, Math.min(LOOK_MS, at - now))).unref();
  }
}
