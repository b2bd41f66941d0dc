import { onWire, type Transfer } from './link.ts';
import { Pipe } from './pipe.ts';
import type { Scenario } from './scenario.ts';
import type { Timeline } from './timeline.ts';
import { NO_SITE } from './topology.ts';

/** Events of the network, as the queue numbers them: `a` is a transfer, or a pipe. */
export const NETWORK_EVENTS = { sent: 1, piped: 2, reached: 3, entered: 4, arrived: 5 } as const;

export interface NetworkPlan {
  /** Site of each node, or NO_SITE. */
  readonly siteOf: Int32Array;
  /** Bits per second of each node's link, each way. */
  readonly rateOf: Float64Array;
}

/**
 * Links between the nodes. Each chunk is sent whole over its sender's link (one chunk at a time, the sender says
 * which) and its receiver's (in order of arrival), and in parts, by turns with all other connections, over the uplinks
 * of their sites. Time on a link counts Ethernet, IP and TCP headers; bytes are payload.
 */
export class Network {
  readonly #timeline: Timeline;
  readonly #scenario: Scenario;
  readonly #plan: NetworkPlan;
  readonly #busy: Uint8Array;
  readonly #freeAt: Float64Array;
  /** Two of each site: its uplink out, and in. */
  readonly #pipes: readonly Pipe[];
  readonly #transfers: (Transfer | undefined)[] = [];
  readonly #free: number[] = [];
  /** Bytes of each transfer that have come into the receiver's site. */
  readonly #entered: number[] = [];
  /** Payload bytes that each node has put on its link. */
  readonly sentBytes: Float64Array;

  constructor(timeline: Timeline, scenario: Scenario, plan: NetworkPlan) {
    this.#timeline = timeline;
    this.#scenario = scenario;
    this.#plan = plan;
    const nodes = plan.siteOf.length;
    this.#busy = new Uint8Array(nodes);
    this.#freeAt = new Float64Array(nodes);
    this.sentBytes = new Float64Array(nodes);
    const rate = scenario.uplinkRate ?? Number.POSITIVE_INFINITY;
    this.#pipes = Array.from(
      { length: 2 * scenario.sites },
      (_, number) => new Pipe(timeline.at(number >> 1), { kind: NETWORK_EVENTS.piped, number }, rate),
    );
  }

  /** Payload bytes that came in over each site's uplink. */
  get uplinkBytes(): number[] {
    return this.#pipes.filter((_, number) => number % 2 === 1).map(({ payload }) => payload);
  }

  near(a: number, b: number): boolean {
    return this.#plan.siteOf[a] === this.#plan.siteOf[b];
  }

  /** The node's link towards the network can take a chunk. */
  idle(node: number): boolean {
    return this.#busy[node] === 0;
  }

  /** Puts a chunk on the link of `transfer.from`, which must be idle; `sent` follows, and later `arrived`. */
  send(transfer: Transfer, now: number): void {
    const number = this.#free.pop() ?? this.#transfers.length;
    this.#transfers[number] = transfer;
    this.#entered[number] = 0;
    this.#busy[transfer.from] = 1;
    const rate = this.#plan.rateOf[transfer.from] as number;
    this.#queueOf(transfer.from).push(now + onWire(transfer.bytes, rate), NETWORK_EVENTS.sent, number);
  }

  transfer(number: number): Transfer {
    return this.#transfers[number] as Transfer;
  }

  /** The chunk has left its sender's link. `lost`: the sender died meanwhile, and the bytes with it. */
  sent(number: number, now: number, lost: boolean): void {
    const { link, from, to, bytes } = this.transfer(number);
    this.#busy[from] = 0;
    if (lost) {
      this.take(number);
      return;
    }
    this.sentBytes[from] = (this.sentBytes[from] as number) + bytes;
    const site = this.#plan.siteOf[from] as number;
    if (this.near(from, to)) this.entered(number, now + this.#scenario.nearDelayMs);
    else if (site === NO_SITE) this.#overWan(number, bytes, now);
    else this.#pipe(2 * site).add(link, number, bytes, now);
  }

  /** A part of a chunk has left a pipe. Returns the transfer when it has come a part nearer to its receiver. */
  piped(pipe: number, now: number): Transfer | undefined {
    const { transfer: number, bytes } = this.#pipe(pipe).done(now);
    const transfer = this.transfer(number);
    if (pipe % 2 === 0) {
      this.#overWan(number, bytes, now);
      return undefined;
    }
    this.#entered[number] = (this.#entered[number] as number) + bytes;
    if (this.#entered[number] === transfer.bytes) this.entered(number, now);
    return transfer;
  }

  /** A part of a chunk has crossed the wide network. */
  reached(number: number, bytes: number, now: number): void {
    const { link, to } = this.transfer(number);
    const site = this.#plan.siteOf[to] as number;
    if (site !== NO_SITE && this.#scenario.uplinkRate !== undefined)
      this.#pipe(2 * site + 1).add(link, number, bytes, now);
    else {
      this.#entered[number] = (this.#entered[number] as number) + bytes;
      if (this.#entered[number] === this.transfer(number).bytes) this.entered(number, now);
    }
  }

  /** The chunk has reached its receiver's site. */
  entered(number: number, now: number): void {
    const { to, bytes } = this.transfer(number);
    const end = Math.max(now, this.#freeAt[to] as number) + onWire(bytes, this.#plan.rateOf[to] as number);
    this.#freeAt[to] = end;
    this.#queueOf(to).push(end + this.#scenario.storeMs, NETWORK_EVENTS.arrived, number);
  }

  /** The chunk is taken out of the network. */
  take(number: number): Transfer {
    const transfer = this.transfer(number);
    this.#transfers[number] = undefined;
    this.#free.push(number);
    return transfer;
  }

  #overWan(number: number, bytes: number, now: number): void {
    const { to } = this.transfer(number);
    this.#queueOf(to).push(now + this.#scenario.farDelayMs, NETWORK_EVENTS.reached, number, bytes);
  }

  #queueOf(node: number) {
    return this.#timeline.at(this.#plan.siteOf[node] as number);
  }

  #pipe(number: number): Pipe {
    return this.#pipes[number] as Pipe;
  }
}
