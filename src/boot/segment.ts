import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { EventEmitter, once } from 'node:events';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Log } from '../observe/log.ts';
import type { SegmentInterface } from './interface.ts';
import { type Neighbour, Neighbours, type NeighboursOptions } from './neighbours.ts';
import type { Claim, ClaimSchema, Heartbeat, HeartbeatSchema, Lease, LeaseSchema } from './segment_pb.ts';
import {
  openMessage,
  type SegmentContent,
  SegmentError,
  type SegmentIdentity,
  sealMessage,
} from './segment-message.ts';

export interface SegmentDeps {
  readonly log: Log;
  readonly identity: SegmentIdentity;
  /** The fleet's members; heartbeats of all others are dropped. */
  readonly membership: { member(peerId: string): object | undefined };
  /** What this node says about itself, asked for at every beat. */
  readonly heartbeat: () => MessageInitShape<typeof HeartbeatSchema>;
}

export interface SegmentOptions extends NeighboursOptions {
  readonly interface: SegmentInterface;
  /** Between two heartbeats, ms. @default 1000 */
  readonly beatMs?: number;
  /** UDP port of the group. @default 6677 */
  readonly port?: number;
}

export interface SegmentEvents {
  'neighbour:join': [Neighbour];
  'neighbour:leave': [Neighbour];
  'neighbour:beat': [Heartbeat, peerId: string];
  'claim:hear': [Claim, peerId: string];
  'lease:hear': [Lease, peerId: string];
}

/** Administratively scoped (RFC 2365) and link-local (RFC 4291) groups; TTL and hop limit 1 besides. */
const GROUP_V4 = '239.255.66.77';
const GROUP_V6 = 'ff02::b007';
export const segmentDefaults = { beatMs: 1000, port: 6677 } as const;
/** Signature checks in one second, all senders together: what is beyond is dropped unread. */
const MAX_CHECKS_PER_SECOND = 500;

/**
 * Tells the other nodes of this L2 segment that this one lives and what it holds, and knows who else does. IPv4 and
 * IPv6, whichever the interface has. Dispose stops both; neighbours notice within three beats.
 */
export class Segment extends EventEmitter<SegmentEvents> implements AsyncDisposable {
  readonly #deps: SegmentDeps;
  readonly #neighbours: Neighbours;
  readonly #sockets: { readonly socket: Socket; readonly group: string }[] = [];
  readonly #port: number;
  readonly #startedMs = BigInt(Date.now());
  readonly #refused = new Map<string, number>();
  #sequence = 0n;
  #checks = 0;
  #timers: NodeJS.Timeout[] = [];

  private constructor(deps: SegmentDeps, options: SegmentOptions) {
    super();
    this.#deps = deps;
    this.#port = options.port ?? segmentDefaults.port;
    this.#neighbours = new Neighbours(options);
  }

  /** @throws the socket's error when the interface cannot do multicast at all */
  static async open(deps: SegmentDeps, options: SegmentOptions): Promise<Segment> {
    const segment = new Segment(deps, options);
    try {
      await segment.#openSockets(options.interface);
    } catch (error) {
      await segment[Symbol.asyncDispose]();
      throw error;
    }
    segment.#timers = [
      setInterval(() => segment.beat(), options.beatMs ?? segmentDefaults.beatMs),
      setInterval(() => segment.#turn(), 200),
    ];
    segment.beat();
    return segment;
  }

  /** Neighbours whose heartbeats arrive, this node not among them. */
  neighbours(): Neighbour[] {
    return this.#neighbours.live(performance.now());
  }

  /** True when a member of the fleet had this address on the segment. */
  wasMember(address: string): boolean {
    return this.#neighbours.wasMember(address);
  }

  /** Datagrams refused so far, by the code of `SegmentError`. */
  get refused(): ReadonlyMap<string, number> {
    return this.#refused;
  }

  claim(claim: MessageInitShape<typeof ClaimSchema>): void {
    this.#send({ case: 'claim', value: claim });
  }

  announceLease(lease: MessageInitShape<typeof LeaseSchema>): void {
    this.#send({ case: 'lease', value: { lease } });
  }

  /** A heartbeat now, beside the regular ones: something changed that neighbours should know. */
  beat(): void {
    this.#send({ case: 'heartbeat', value: this.#deps.heartbeat() });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    const closing = this.#sockets.splice(0).map(({ socket }) => closed(socket));
    await Promise.all(closing);
  }

  async #openSockets({ name, ipv4, ipv6 }: SegmentInterface): Promise<void> {
    if (ipv4 !== undefined) {
      const socket = await this.#bind(createSocket({ type: 'udp4', reuseAddr: true }), '0.0.0.0');
      socket.addMembership(GROUP_V4, ipv4.address);
      socket.setMulticastInterface(ipv4.address);
      this.#ready(socket, GROUP_V4);
    }
    if (ipv6.length > 0) {
      const socket = await this.#bind(createSocket({ type: 'udp6', reuseAddr: true, ipv6Only: true }), '::');
      socket.addMembership(GROUP_V6, `::%${name}`);
      socket.setMulticastInterface(`::%${name}`);
      this.#ready(socket, `${GROUP_V6}%${name}`);
    }
  }

  async #bind(socket: Socket, address: string): Promise<Socket> {
    this.#sockets.push({ socket, group: '' });
    socket.bind(this.#port, address);
    await once(socket, 'listening');
    return socket;
  }

  #ready(socket: Socket, group: string): void {
    socket.setMulticastTTL(1);
    socket.on('message', (bytes, from) => void this.#receive(bytes, from));
    socket.on('error', (error) => this.#deps.log.warn('segment socket failed', { error }));
    this.#sockets[this.#sockets.length - 1] = { socket, group };
  }

  /** Signing may be asynchronous; the sequence is taken in the order of the calls. */
  #send(content: SegmentContent): void {
    this.#sequence += 1n;
    const { identity, log } = this.#deps;
    const sender = {
      peerId: identity.peerId,
      startedMs: this.#startedMs,
      sentMs: BigInt(Date.now()),
      sequence: this.#sequence,
    };
    sealMessage(sender, content, identity).then(
      (bytes) => {
        for (const { socket, group } of this.#sockets) {
          socket.send(bytes, this.#port, group, (error) => {
            if (error) log.debug('segment message not sent', { group, error });
          });
        }
      },
      (error) => log.error('segment message cannot be made', { error }),
    );
  }

  async #receive(bytes: Uint8Array, from: RemoteInfo): Promise<void> {
    try {
      await this.#take(bytes, from);
    } catch (error) {
      if (!(error instanceof SegmentError)) throw error;
      const count = (this.#refused.get(error.code) ?? 0) + 1;
      this.#refused.set(error.code, count);
      // The first of a kind is worth a line; a flood is worth a count.
      if (count === 1 && error.code !== 'SEGMENT_STALE') {
        this.#deps.log.warn('segment message refused', {
          code: error.code,
          reason: error.message,
          peer: error.peerId,
          from: from.address,
        });
      }
    }
  }

  async #take(bytes: Uint8Array, from: RemoteInfo): Promise<void> {
    const opened = openMessage(bytes);
    const { body } = opened;
    const { identity, membership } = this.#deps;
    if (body.peerId === identity.peerId) return;
    if (membership.member(body.peerId) === undefined) {
      throw new SegmentError('SEGMENT_STRANGER', `${body.peerId} is no member of this fleet`, body.peerId);
    }
    const source = from.address.split('%')[0] ?? from.address;
    this.#neighbours.check(body, source, Date.now());
    if (++this.#checks > MAX_CHECKS_PER_SECOND) throw new SegmentError('SEGMENT_BUSY', 'too many messages');
    if (!(await opened.verify(identity))) {
      throw new SegmentError('SEGMENT_SIGNATURE', 'the signature is not the sender’s', body.peerId);
    }
    // Another message of the same sender may have been verified in the meantime (the IPv6 twin of this one, say).
    this.#neighbours.check(body, source, Date.now());
    const { joined } = this.#neighbours.accept(body, performance.now());
    if (joined) this.emit('neighbour:join', joined);
    const { case: kind, value } = body.content;
    if (kind === 'heartbeat') this.emit('neighbour:beat', value, body.peerId);
    if (kind === 'claim') this.emit('claim:hear', value, body.peerId);
    if (kind === 'lease' && value.lease) this.emit('lease:hear', value.lease, body.peerId);
  }

  #turn(): void {
    this.#checks = Math.max(0, this.#checks - MAX_CHECKS_PER_SECOND / 5);
    for (const gone of this.#neighbours.expire(performance.now())) this.emit('neighbour:leave', gone);
  }
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.removeAllListeners('message');
    try {
      socket.close(() => resolve());
    } catch {
      resolve(); // It never got as far as being open.
    }
  });
}
