import { peerIdFromString } from '@libp2p/peer-id';
import type { LaneKind } from '../lane/lane.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { Membership } from './membership.ts';
import type { SwarmNode } from './node.ts';

export interface PeerStatus {
  readonly peerId: string;
  readonly name?: string;
  readonly site: string;
  readonly connected: boolean;
  /** Where it is connected to, as a multiaddr. */
  readonly address?: string;
  /** Round trip of the last ping, milliseconds. */
  readonly rttMs?: number;
  /** What chunk bytes travel by: the fastest lane that stands between us. */
  readonly lane?: LaneKind;
  /** Chunk bytes since we started. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Bytes of requests, have-maps and the like, both ways, since the exchange with it stands. */
  readonly messageBytes?: number;
  /** Unix milliseconds. */
  readonly bannedUntil?: number;
}

interface TrafficDeps {
  readonly node: SwarmNode;
  readonly membership: Membership;
  readonly metrics: Metrics;
  bannedUntil(peerId: string): number | undefined;
  link(peerId: string): { readonly lane: LaneKind; readonly messageBytes: number } | undefined;
}

/** Peers whose counts are kept after they left. */
const MAX_REMEMBERED = 4096;

interface Counts {
  in: number;
  out: number;
  /** Of all peers of its site, since the metrics were last told. */
  readonly site: { in: number; out: number };
}

/** What went to and came from each peer, and who they are. */
export class PeerTraffic {
  readonly #deps: TrafficDeps;
  readonly #counts = new Map<string, Counts>();
  /** Bytes are counted with every read of a socket, and a metric takes long to count: it is told when it is asked. */
  readonly #untold = new Map<string, { in: number; out: number }>();

  constructor(deps: TrafficDeps) {
    this.#deps = deps;
    const labels = ['direction', 'site'] as const;
    const total = deps.metrics.counter('swarm_chunk_bytes_total', 'Chunk bytes exchanged with peers', labels, () => {
      for (const [site, untold] of this.#untold) {
        for (const direction of ['in', 'out'] as const) total.inc({ direction, site }, untold[direction]);
        untold.in = 0;
        untold.out = 0;
      }
    });
  }

  count(peer: string, direction: 'in' | 'out', bytes: number): void {
    const counts = this.#counts.get(peer) ?? this.#begin(peer);
    counts[direction] += bytes;
    counts.site[direction] += bytes;
  }

  /** Members that we know of beforehand, are connected to, or have exchanged chunks with. */
  peers(): PeerStatus[] {
    const { node, membership } = this.#deps;
    const known = [...(membership.members ?? [])].map(({ peerId }) => peerId);
    const peers = new Set([...known, ...node.getPeers().map(String), ...this.#counts.keys()]);
    peers.delete(node.peerId.toString());
    return [...peers].flatMap((peer) => this.#status(peer) ?? []);
  }

  #begin(peer: string): Counts {
    if (this.#counts.size >= MAX_REMEMBERED) this.#counts.clear();
    const name = this.#deps.membership.member(peer)?.site ?? '';
    const site = this.#untold.get(name) ?? { in: 0, out: 0 };
    this.#untold.set(name, site);
    const counts = { in: 0, out: 0, site };
    this.#counts.set(peer, counts);
    return counts;
  }

  #status(peerId: string): PeerStatus | undefined {
    const member = this.#deps.membership.member(peerId);
    if (member === undefined) return undefined;
    const [connection] = this.#deps.node.getConnections(peerIdFromString(peerId));
    const counts = this.#counts.get(peerId);
    const link = this.#deps.link(peerId);
    const bannedUntil = this.#deps.bannedUntil(peerId);
    return {
      peerId,
      ...(member.name !== undefined && { name: member.name }),
      site: member.site,
      connected: connection !== undefined,
      ...(connection && { address: connection.remoteAddr.toString() }),
      ...(connection?.rtt !== undefined && { rttMs: connection.rtt }),
      ...(link && { lane: link.lane, messageBytes: link.messageBytes }),
      bytesIn: counts?.in ?? 0,
      bytesOut: counts?.out ?? 0,
      ...(bannedUntil !== undefined && { bannedUntil }),
    };
  }
}
