import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import type { ChunkStore } from '../../src/content/chunk-source.ts';
import { silentLog } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { createSwarm, type Swarm } from '../../src/swarm/swarm.ts';

const SITE = 'bench';
/** Both processes derive the same two identities, which are good for nothing else. */
const KEYS = {
  seed: await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(1)),
  downloader: await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(2)),
};

export const PEERS = {
  seed: peerIdFromPrivateKey(KEYS.seed).toString(),
  downloader: peerIdFromPrivateKey(KEYS.downloader).toString(),
};

/** A node of the two on loopback. The seed listens; the downloader keeps itself connected to the address of `seed`. */
export function openNode(role: keyof typeof PEERS, store: ChunkStore, options: { seed?: string } = {}): Promise<Swarm> {
  const member = (peer: string) => (Object.values(PEERS).includes(peer) ? { site: SITE } : undefined);
  const members = options.seed ? [{ peerId: PEERS.seed, site: SITE, addresses: [options.seed] }] : [];
  return createSwarm(
    { store, membership: { member, members }, privateKey: KEYS[role], log: silentLog, metrics: createMetrics() },
    { listen: role === 'seed' ? ['/ip4/127.0.0.1/tcp/0'] : [] },
  );
}
