/** A swarm as a process of its own, so that its memory can be measured while others attack it. Run with --expose-gc. */
import { readFileSync } from 'node:fs';
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { silentLog } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { createSwarm } from '../../src/swarm/swarm.ts';
import { MemoryStore } from '../fakes/memory-store.ts';
import { content, fill } from './fleet.ts';

export interface VictimPlan {
  readonly members: readonly string[];
  readonly seed: number;
}

export type VictimReport =
  | {
      readonly said: 'ready';
      readonly address: string;
      readonly set: string;
      readonly chunks: { cid: string; size: number }[];
    }
  | { readonly said: 'memory'; readonly rss: number; readonly held: number };

if (import.meta.main) {
  const { members, seed } = JSON.parse(process.argv[2] ?? '') as VictimPlan;
  const store = new MemoryStore();
  const { set, chunks } = content(20);
  await fill(store, chunks);
  const swarm = await createSwarm(
    {
      store,
      membership: { member: (peer) => (members.includes(peer) ? { site: 'edge' } : undefined) },
      privateKey: await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(seed)),
      log: silentLog,
      metrics: createMetrics(),
    },
    // The point is what the codec does with all of it, so nobody is banned on the way.
    { listen: ['/ip4/127.0.0.1/tcp/0'], standing: { offences: 1e9 } },
  );
  await swarm.share(set);
  const say = (report: VictimReport) => process.send?.(report);
  process.on('message', () => {
    // What the fake store remembers for its tests is not what we are after.
    store.asked.length = 0;
    globalThis.gc?.();
    const { heapUsed, external } = process.memoryUsage();
    const rss = Number(/VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;
    say({ said: 'memory', rss, held: heapUsed + external });
  });
  process.on('disconnect', () => process.exit(0));
  const refs = set.chunks.map(({ cid, size }) => ({ cid: cid.toString(), size }));
  say({ said: 'ready', address: swarm.addresses()[0] ?? '', set: set.id.toString(), chunks: refs });
}
