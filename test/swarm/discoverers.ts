/** Members of one fleet on one segment that know no address of each other. Prints how many peers each has found. */
import { generateKeyPair } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { silentLog } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { createSwarm } from '../../src/swarm/swarm.ts';
import { MemoryStore } from '../fakes/memory-store.ts';

const [address = '', count = '0', waitMs = '0'] = process.argv.slice(2);

if (import.meta.main) {
  const keys = await Promise.all(Array.from({ length: Number(count) }, () => generateKeyPair('Ed25519')));
  const members = keys.map((key) => ({
    peerId: peerIdFromPrivateKey(key).toString(),
    site: 'edge',
    addresses: [] as string[],
  }));
  const known = new Set(members.map(({ peerId }) => peerId));
  const open = (privateKey: (typeof keys)[number]) =>
    createSwarm(
      {
        store: new MemoryStore(),
        membership: { member: (peer) => (known.has(peer) ? { site: 'edge' } : undefined), members },
        privateKey,
        log: silentLog,
        metrics: createMetrics(),
      },
      { listen: [`/ip4/${address}/tcp/0`], mdns: true },
    );
  const swarms = await Promise.all(keys.map(open));
  const found = () => swarms.map((swarm) => swarm.peers().filter(({ connected }) => connected).length);
  const late = performance.now() + Number(waitMs);
  while (performance.now() < late && found().some((peers) => peers < members.length - 1)) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  console.log(JSON.stringify(found()));
  process.exit(0);
}
