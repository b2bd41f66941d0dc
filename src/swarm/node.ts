import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import { bootstrap } from '@libp2p/bootstrap';
import { type GossipSub, gossipsub, StrictSign } from '@libp2p/gossipsub';
import { type Identify, identify } from '@libp2p/identify';
import type { ConnectionGater, Libp2p, PrivateKey } from '@libp2p/interface';
import { type KadDHT, kadDHT, passthroughMapper } from '@libp2p/kad-dht';
import { peerIdFromString } from '@libp2p/peer-id';
import { type Ping, ping } from '@libp2p/ping';
import { tcp } from '@libp2p/tcp';
import { createLibp2p } from 'libp2p';
import { PORTER_DEFAULTS, type Porter } from '../limits/porter.ts';
import { corked } from './corked.ts';
import { segmentDiscovery } from './segment-discovery.ts';
import { sparing } from './sparing.ts';
import { TRANSPORT } from './transport.ts';
import { type Vouching, vouched } from './vouched.ts';

export const DHT_PROTOCOL = '/bootmesh/kad/1.0.0';

/** Largest gossiped message, bytes. */
export const MAX_GOSSIP_BYTES = 16 * 1024;

export type SwarmNode = Libp2p<{ identify: Identify; ping: Ping; pubsub: GossipSub; dht: KadDHT }>;

export interface NodeOptions {
  /** Multiaddrs to listen on. */
  readonly listen: readonly string[];
  /** Multiaddrs with peer ids that libp2p's own discovery starts from. */
  readonly bootstrap: readonly string[];
  /** Look for members by multicast DNS. */
  readonly mdns: boolean;
  /** One dial of one peer, milliseconds. */
  readonly dialTimeoutMs: number;
}

/** The libp2p node, started: TCP, Noise, Yamux, identify, ping, gossipsub, and a Kademlia DHT of the fleet's own. */
export async function createNode(
  deps: {
    readonly privateKey: PrivateKey;
    readonly gate: ConnectionGater;
    /** Anybody may begin a handshake when absent. */
    readonly porter?: Porter | undefined;
    admits(peerId: string): boolean;
    /** Of a peer's gossip, 0 at best: below that it is not in our mesh, and at -9 not listened to. @default 0 */
    readonly score?: (peerId: string) => number;
    readonly vouching?: Vouching | undefined;
  },
  options: NodeOptions,
): Promise<SwarmNode> {
  const discovery = options.bootstrap.length > 0 ? [bootstrap({ list: [...options.bootstrap] })] : [];
  const connected = (peerId: string) => (node?.getConnections(peerIdFromString(peerId)).length ?? 0) > 0;
  const listenOpts = { ...TRANSPORT.tcp.listenOpts, blockList: deps.porter?.blockList };
  let node: SwarmNode | undefined;
  node = await createLibp2p({
    privateKey: deps.privateKey,
    addresses: { listen: [...options.listen] },
    transports: [tcp({ ...TRANSPORT.tcp, listenOpts })],
    connectionProtector: corked,
    // The first that the other end knows, too.
    connectionEncrypters: deps.vouching === undefined ? [noise()] : [vouched(noise(), deps.vouching), noise()],
    streamMuxers: [sparing(yamux(TRANSPORT.yamux))],
    connectionGater: deps.gate,
    connectionManager: {
      dialTimeout: options.dialTimeoutMs,
      addressDialTimeout: Math.ceil(options.dialTimeoutMs / 2),
      inboundUpgradeTimeout: 5_000,
      // A site's nodes may share one address (a lab, a NAT) and come back in the same second after a power cut.
      inboundConnectionThreshold: 64,
      // Half of them are never strangers'.
      maxIncomingPendingConnections: 2 * PORTER_DEFAULTS.strangers,
      reconnectRetries: 0,
    },
    // `Vigil` asks only those who are silent.
    connectionMonitor: { enabled: false },
    peerDiscovery: options.mdns ? [...discovery, segmentDiscovery({ admits: deps.admits, connected })] : discovery,
    services: {
      identify: identify({ maxMessageSize: 8192 }),
      ping: ping(),
      pubsub: gossipsub({
        globalSignaturePolicy: StrictSign,
        allowPublishToZeroTopicPeers: true,
        ignoreDuplicatePublishError: true,
        emitSelf: false,
        fallbackToFloodsub: false,
        maxInboundDataLength: 4 * MAX_GOSSIP_BYTES,
        maxOutboundBufferSize: 64 * MAX_GOSSIP_BYTES,
        maxTopicBytesPerPeer: 64 * 1024,
        scoreParams: { appSpecificScore: deps.score ?? (() => 0) },
      }),
      dht: kadDHT({
        protocol: DHT_PROTOCOL,
        // Every member serves: a fleet's addresses are private ones, which the client mode's heuristics leave out.
        clientMode: false,
        peerInfoMapper: passthroughMapper,
        allowQueryWithZeroPeers: true,
        reprovide: { maxQueueSize: 4096 },
      }),
    },
  });
  return node;
}
