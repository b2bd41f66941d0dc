import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { type Crossing, inOrder, type Meeting, type Met } from './crossing.ts';

/** What one thread needs to meet the others. */
export interface Seat {
  readonly number: number;
  /** To each of the others, in their order. */
  readonly ports: readonly MessagePort[];
  /** How often a thread has arrived, of all meetings. */
  readonly arrivals: SharedArrayBuffer;
  /** Of each thread, of this meeting and the one before: its next time, what it has done. */
  readonly table: SharedArrayBuffer;
}

/** Numbers of one thread in the table, for one meeting. */
const ROW = 2;
/** A thread that waits looks up this often, so that it can be ended. */
const LOOK_MS = 100;

/** Seats for so many threads. */
export function openMeeting(threads: number): Seat[] {
  const arrivals = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  const table = new SharedArrayBuffer(2 * threads * ROW * Float64Array.BYTES_PER_ELEMENT);
  const ports: MessagePort[][] = Array.from({ length: threads }, () => []);
  ports.forEach((own, number) => {
    for (const others of ports.slice(0, number)) {
      const { port1, port2 } = new MessageChannel();
      own.push(port1);
      others.push(port2);
    }
  });
  return ports.map((own, number) => ({ number, ports: own, arrivals, table }));
}

/** A barrier between windows: no thread goes on before all have given what they have for the others. */
export class ThreadMeeting implements Meeting {
  readonly first: boolean;
  readonly #seat: Seat;
  readonly #threads: number;
  readonly #arrivals: Int32Array;
  readonly #table: Float64Array;
  #meetings = 0;

  constructor(seat: Seat) {
    this.first = seat.number === 0;
    this.#seat = seat;
    this.#threads = seat.ports.length + 1;
    this.#arrivals = new Int32Array(seat.arrivals);
    this.#table = new Float64Array(seat.table);
  }

  owns(place: number): boolean {
    return place % this.#threads === this.#seat.number;
  }

  meet(crossings: readonly Crossing[], next: number, done: number): Met {
    const { number, ports } = this.#seat;
    const rows = (this.#meetings % 2) * this.#threads;
    this.#meetings += 1;
    this.#table.set([next, done], (rows + number) * ROW);
    ports.forEach((port, n) => {
      const other = n < number ? n : n + 1;
      port.postMessage(crossings.filter(({ to }) => to === undefined || to % this.#threads === other));
    });
    this.#awaitAll();
    const own = crossings.filter(({ to }) => to === undefined || this.owns(to));
    const theirs = ports.flatMap((port) => receiveMessageOnPort(port)?.message as Crossing[]);
    const all = this.#table.subarray(rows * ROW, (rows + this.#threads) * ROW);
    return {
      crossings: inOrder([...own, ...theirs]),
      next: Math.min(...all.filter((_, n) => n % ROW === 0)),
      done: all.reduce((sum, value, n) => (n % ROW === 1 ? sum + value : sum), 0),
    };
  }

  #awaitAll(): void {
    const awaited = this.#meetings * this.#threads;
    if (Atomics.add(this.#arrivals, 0, 1) + 1 === awaited) {
      Atomics.notify(this.#arrivals, 0);
      return;
    }
    for (;;) {
      const arrived = Atomics.load(this.#arrivals, 0);
      if (arrived >= awaited) return;
      Atomics.wait(this.#arrivals, 0, arrived, LOOK_MS);
    }
  }
}
