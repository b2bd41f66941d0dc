import { onWire, type Transfer } from './link.ts';
import { Pipe } from './pipe.ts';
import type { Scenario } from './scenario.ts';
import type { Timeline } from './timeline.ts';

/** Events of the network, as the queue numbers them: `a` is a transfer, or a pipe, or bytes of the event's transfer. */
export const NETWORK_EVENTS = { sent: 1, piped: 2, reached: 3, entered: 4, arrived: 5 } as const;

export interface NetworkPlan {
  /** Site of each node, or the place after the last site. */
  readonly placeOf: Int32Array;
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
  readonly #transfers: Transfer[] = [];
  readonly #free: number[] = [];
  /** Bytes of each transfer that are beyond the wide network, or the way out to it. */
  readonly #through: number[] = [];
  /** Those that come from other places, by their names. */
  readonly #incoming = new Map<number, number>();
  readonly #named: Float64Array;
  /** Payload bytes that each node has put on its link. */
  readonly sentBytes: Float64Array;

  constructor(timeline: Timeline, scenario: Scenario, plan: NetworkPlan) {
    this.#timeline = timeline;
    this.#scenario = scenario;
    this.#plan = plan;
    const nodes = plan.placeOf.length;
    this.#busy = new Uint8Array(nodes);
    this.#freeAt = new Float64Array(nodes);
    this.#named = new Float64Array(nodes);
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
    return this.#plan.placeOf[a] === this.#plan.placeOf[b];
  }

  /** The node's link towards the network can take a chunk. */
  idle(node: number): boolean {
    return this.#busy[node] === 0;
  }

  /** Puts a chunk on the link of `transfer.from`, which must be idle; `sent` follows, and later `arrived`. */
  send(transfer: Transfer, now: number): void {
    const number = this.#admit(transfer);
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
      this.#free.push(number);
      return;
    }
    this.sentBytes[from] = (this.sentBytes[from] as number) + bytes;
    const site = this.#plan.placeOf[from] as number;
    if (this.near(from, to)) this.entered(number, now + this.#scenario.nearDelayMs);
    else if (this.#hasUplink(site)) this.#pipe(2 * site).add(link, number, bytes, now);
    else this.#overWan(number, bytes, now);
  }

  /** A part of a chunk has left a pipe. Returns the transfer when it has come a part nearer to its receiver. */
  piped(pipe: number, now: number): Transfer | undefined {
    const { transfer: number, bytes } = this.#pipe(pipe).done(now);
    const transfer = this.transfer(number);
    if (pipe % 2 === 0) {
      this.#overWan(number, bytes, now);
      return undefined;
    }
    if (this.#passed(number, bytes)) this.entered(number, now);
    return transfer;
  }

  /** A part of a chunk has crossed the wide network. */
  reached(transfer: Transfer, bytes: number, now: number): void {
    let number = this.#incoming.get(transfer.name);
    if (number === undefined) {
      number = this.#admit(transfer);
      this.#incoming.set(transfer.name, number);
    }
    const site = this.#plan.placeOf[transfer.to] as number;
    if (this.#hasUplink(site)) this.#pipe(2 * site + 1).add(transfer.link, number, bytes, now);
    else if (this.#passed(number, bytes)) this.entered(number, now);
  }

  /** The chunk has reached its receiver's site. */
  entered(number: number, now: number): void {
    const { to, bytes } = this.transfer(number);
    const end = Math.max(now, this.#freeAt[to] as number) + onWire(bytes, this.#plan.rateOf[to] as number);
    this.#freeAt[to] = end;
    this.#queueOf(to).push(end + this.#scenario.storeMs, NETWORK_EVENTS.arrived, number);
  }

  /** The chunk is with its receiver, and out of the network. */
  arrived(number: number): Transfer {
    const transfer = this.transfer(number);
    this.#free.push(number);
    if (!transfer.link.near) this.#incoming.delete(transfer.name);
    return transfer;
  }

  /** A name for the next chunk that the node sends. */
  nameFrom(node: number): number {
    const count = this.#named[node] as number;
    this.#named[node] = count + 1;
    return count * this.#named.length + node;
  }

  /** Sends a part of a chunk to its receiver's site; with the last one it is out of this place's hands. */
  #overWan(number: number, bytes: number, now: number): void {
    const transfer = this.transfer(number);
    const { from, to } = transfer;
    this.#timeline.cross({
      from: this.#plan.placeOf[from] as number,
      to: this.#plan.placeOf[to] as number,
      time: now + this.#scenario.farDelayMs,
      kind: NETWORK_EVENTS.reached,
      a: bytes,
      b: 0,
      value: transfer,
    });
    if (this.#passed(number, bytes)) this.#free.push(number);
  }

  #admit(transfer: Transfer): number {
    const number = this.#free.pop() ?? this.#transfers.length;
    this.#transfers[number] = transfer;
    this.#through[number] = 0;
    return number;
  }

  /** Counts bytes that are through; true when they all are. */
  #passed(number: number, bytes: number): boolean {
    const through = (this.#through[number] as number) + bytes;
    this.#through[number] = through;
    return through === this.transfer(number).bytes;
  }

  #hasUplink(place: number): boolean {
    return place < this.#scenario.sites && this.#scenario.uplinkRate !== undefined;
  }

  #queueOf(node: number) {
    return this.#timeline.at(this.#plan.placeOf[node] as number);
  }

  #pipe(number: number): Pipe {
    return this.#pipes[number] as Pipe;
  }
}
