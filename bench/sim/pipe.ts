import type { EventQueue } from './event-queue.ts';
import { type Link, onWire } from './link.ts';

/** A part of a chunk that waits for its turn. */
interface Parcel {
  readonly transfer: number;
  bytes: number;
}

/** Bytes of one connection that go before it is another one's turn. */
const QUANTUM = 16 * 1024;

/**
 * A line that many connections share, as TCP shares one: by turns, a few packets of each (deficit round robin,
 * Shreedhar and Varghese 1995, with parts of one size). `done` follows for each part that is through.
 */
export class Pipe {
  readonly #queue: EventQueue;
  readonly #event: { readonly kind: number; readonly number: number };
  readonly #rate: number;
  readonly #flows = new Map<Link, Parcel[]>();
  #turns: Link[] = [];
  /** What is on the line. */
  #sending: Parcel | undefined;
  /** Payload bytes that went through. */
  payload = 0;

  constructor(queue: EventQueue, event: { readonly kind: number; readonly number: number }, rate: number) {
    this.#queue = queue;
    this.#event = event;
    this.#rate = rate;
  }

  add(link: Link, transfer: number, bytes: number, now: number): void {
    const flow = this.#flows.get(link);
    const last = flow?.at(-1);
    if (flow === undefined) {
      this.#flows.set(link, [{ transfer, bytes }]);
      this.#turns.push(link);
    } else if (last?.transfer === transfer) last.bytes += bytes;
    else flow.push({ transfer, bytes });
    if (this.#sending === undefined) this.#next(now);
  }

  /** What has just come through. */
  done(now: number): Readonly<Parcel> {
    const through = this.#sending as Parcel;
    this.payload += through.bytes;
    this.#sending = undefined;
    this.#next(now);
    return through;
  }

  #next(now: number): void {
    for (;;) {
      const link = this.#turns.shift();
      if (link === undefined) return;
      const flow = this.#flows.get(link) as Parcel[];
      const parcel = flow[0] as Parcel;
      const bytes = Math.min(QUANTUM, parcel.bytes);
      parcel.bytes -= bytes;
      if (parcel.bytes === 0) flow.shift();
      // What waits on a connection that was cut does not cross any more, but is accounted for.
      if (flow.length === 0) this.#flows.delete(link);
      else this.#turns.push(link);
      if (!link.up) continue;
      this.#sending = { transfer: parcel.transfer, bytes };
      this.#queue.push(now + onWire(bytes, this.#rate), this.#event.kind, this.#event.number);
      return;
    }
  }
}
