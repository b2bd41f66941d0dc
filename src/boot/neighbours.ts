import { isIP } from 'node:net';
import { type Body, type Heartbeat, Role } from './segment_pb.ts';
import { SegmentError } from './segment-message.ts';

export interface HeldRelease {
  readonly channel: string;
  readonly version: number;
  /** Hexadecimal. */
  readonly digest: string;
}

/** A node of this segment whose heartbeats arrive. */
export interface Neighbour {
  readonly peerId: string;
  readonly name: string;
  /** Best first. */
  readonly addresses: readonly string[];
  readonly gatewayPort: number;
  /** What it holds completely. */
  readonly releases: readonly HeldRelease[];
  /** Boots in progress there. */
  readonly load: number;
  /** Answers booting clients. */
  readonly answering: boolean;
  readonly role: 'server' | 'proxy' | 'none';
  /** A foreign DHCP server that it saw lately. */
  readonly foreignServer: string | undefined;
}

export interface NeighboursOptions {
  /** Without a heartbeat for so long a neighbour is gone, ms. @default 3200: three missed beats */
  readonly lifeMs?: number;
  /** A message sent this far from our own clock is a replay, or a clock to repair, ms. @default 600000 */
  readonly maxSkewMs?: number;
}

export const neighboursDefaults = { lifeMs: 3200, maxSkewMs: 600_000 } as const;

/** Bounds of what a segment's members, gone mad, could make this node keep. */
const MAX_NEIGHBOURS = 256;
const MAX_REMEMBERED = 1024;
const MAX_ADDRESSES = 8;
const MAX_RELEASES = 16;

interface LastMessage {
  readonly startedMs: bigint;
  readonly sequence: bigint;
}

/**
 * Who is alive on the segment. Pure state: the caller verifies signatures between `check` and `accept`, and brings
 * the clock (`now`, monotonic ms).
 */
export class Neighbours {
  readonly #options: Required<NeighboursOptions>;
  readonly #live = new Map<string, { neighbour: Neighbour; heardAt: number }>();
  readonly #last = new Map<string, LastMessage>();
  /** Addresses of members, dead ones too, until so many others were seen. */
  readonly #addresses = new Set<string>();

  constructor(options: NeighboursOptions = {}) {
    this.#options = { ...neighboursDefaults, ...options };
  }

  /**
   * Refuses what needs no signature check: replays, and messages that another machine than their sender put on this
   * segment (`source` must be one of a heartbeat's own addresses).
   * @throws SegmentError SEGMENT_STALE, SEGMENT_CLOCK or SEGMENT_SOURCE
   */
  check(body: Body, source: string, wallClockMs: number): void {
    const { peerId } = body;
    const last = this.#last.get(peerId);
    const newer =
      last === undefined ||
      body.startedMs > last.startedMs ||
      (body.startedMs === last.startedMs && body.sequence > last.sequence);
    if (!newer) throw new SegmentError('SEGMENT_STALE', `message ${body.sequence} was overtaken or replayed`, peerId);
    const skew = Math.abs(Number(body.sentMs) - wallClockMs);
    if (!(skew <= this.#options.maxSkewMs)) {
      throw new SegmentError('SEGMENT_CLOCK', `the sender's clock is ${Math.round(skew / 1000)} s from ours`, peerId);
    }
    if (body.content.case === 'heartbeat' && !body.content.value.addresses.includes(source)) {
      throw new SegmentError('SEGMENT_SOURCE', `a heartbeat came from ${source}, which it does not list`, peerId);
    }
  }

  /** Takes a verified message in. Returns what a heartbeat changed. */
  accept(body: Body, now: number): { readonly joined?: Neighbour } {
    this.#remember(body);
    if (body.content.case !== 'heartbeat') return {};
    const known = this.#live.has(body.peerId);
    if (!known && this.#live.size >= MAX_NEIGHBOURS) return {};
    const neighbour = readHeartbeat(body.peerId, body.content.value);
    this.#live.set(body.peerId, { neighbour, heardAt: now });
    for (const address of neighbour.addresses) this.#addresses.add(address);
    while (this.#addresses.size > MAX_REMEMBERED) this.#addresses.delete(this.#addresses.values().next().value ?? '');
    return known ? {} : { joined: neighbour };
  }

  /** Removes and returns those whose heartbeats stopped. */
  expire(now: number): Neighbour[] {
    const gone = [...this.#live.values()].filter(({ heardAt }) => now - heardAt > this.#options.lifeMs);
    for (const { neighbour } of gone) this.#live.delete(neighbour.peerId);
    return gone.map(({ neighbour }) => neighbour);
  }

  live(now: number): Neighbour[] {
    const alive = [...this.#live.values()].filter(({ heardAt }) => now - heardAt <= this.#options.lifeMs);
    return alive.map(({ neighbour }) => neighbour);
  }

  /** True when a member had this address, alive or not: its DHCP offers are not a foreign server's. */
  wasMember(address: string): boolean {
    return this.#addresses.has(address);
  }

  #remember({ peerId, startedMs, sequence }: Body): void {
    this.#last.delete(peerId);
    this.#last.set(peerId, { startedMs, sequence });
    if (this.#last.size > MAX_REMEMBERED) this.#last.delete(this.#last.keys().next().value ?? '');
  }
}

function readHeartbeat(peerId: string, beat: Heartbeat): Neighbour {
  return {
    peerId,
    name: beat.name.slice(0, 64),
    addresses: beat.addresses.filter((address) => isIP(address) !== 0).slice(0, MAX_ADDRESSES),
    gatewayPort: beat.gatewayPort >= 1 && beat.gatewayPort <= 65_535 ? beat.gatewayPort : 0,
    releases: beat.releases.slice(0, MAX_RELEASES).map(({ channel, version, digest }) => ({
      channel,
      version,
      digest: Buffer.from(digest).toString('hex'),
    })),
    load: beat.load,
    answering: beat.answering,
    role: beat.role === Role.SERVER ? 'server' : beat.role === Role.PROXY ? 'proxy' : 'none',
    foreignServer: isIP(beat.foreignServer) === 4 ? beat.foreignServer : undefined,
  };
}
