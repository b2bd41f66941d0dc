import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { generateKeyPair } from '@libp2p/crypto/keys';
import type { PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { type Chunk, chunkCid, RAW } from '../../src/content/chunk.ts';
import { ChunkSet } from '../../src/content/chunk-set.ts';
import type { ChunkStore } from '../../src/content/chunk-source.ts';
import { type Log, silentLog } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import type { KnownMember, Membership } from '../../src/swarm/membership.ts';
import { createSwarm, type Swarm, type SwarmOptions } from '../../src/swarm/swarm.ts';
import { MemoryStore } from '../fakes/memory-store.ts';

export interface Node {
  readonly swarm: Swarm;
  readonly store: ChunkStore;
}

export interface NodePlan {
  readonly site?: string;
  readonly store?: ChunkStore;
  readonly log?: Log;
  readonly listen?: string;
  /** Leave it out of the members that others dial. */
  readonly undialled?: boolean;
  readonly options?: SwarmOptions;
  readonly privateKey?: PrivateKey;
}

/** Real swarms on loopback that know each other: all are members, each dials those that were started before it. */
export class Fleet implements AsyncDisposable, Membership {
  readonly members: KnownMember[] = [];
  readonly #all = new Map<string, { site: string }>();
  readonly #stack = new AsyncDisposableStack();

  member(peerId: string): { site: string } | undefined {
    return this.#all.get(peerId);
  }

  async key(site = 'edge'): Promise<PrivateKey> {
    const key = await generateKeyPair('Ed25519');
    this.#all.set(peerIdFromPrivateKey(key).toString(), { site });
    return key;
  }

  async node(plan: NodePlan = {}): Promise<Node> {
    const store = plan.store ?? new MemoryStore();
    const swarm = await createSwarm(
      {
        store,
        membership: { member: (peer) => this.member(peer), members: [...this.members] },
        privateKey: plan.privateKey ?? (await this.key(plan.site)),
        log: plan.log ?? silentLog,
        metrics: createMetrics(),
      },
      { listen: [plan.listen ?? '/ip4/127.0.0.1/tcp/0'], ...plan.options },
    );
    this.#stack.use(swarm);
    if (!plan.undialled) {
      this.members.push({ peerId: swarm.peerId, site: plan.site ?? 'edge', addresses: swarm.addresses() });
    }
    return { swarm, store };
  }

  /** Nodes of one site that start at the same moment, and know of each other as a roster tells them. */
  async together(count: number, plan: Omit<NodePlan, 'listen' | 'privateKey'> = {}): Promise<Node[]> {
    const plans = await Promise.all(
      Array.from({ length: count }, async () => {
        const privateKey = await this.key(plan.site);
        const listen = `/ip4/127.0.0.1/tcp/${await freePort()}`;
        const peerId = peerIdFromPrivateKey(privateKey).toString();
        this.members.push({ peerId, site: plan.site ?? 'edge', addresses: [listen] });
        return { ...plan, privateKey, listen, undialled: true };
      }),
    );
    return Promise.all(plans.map((one) => this.node(one)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** A TCP port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

export interface Content {
  readonly set: ChunkSet;
  readonly chunks: readonly Chunk[];
}

/** Random chunks of about `size` bytes, and the set they make. */
export function content(count: number, size = 64 * 1024): Content {
  const chunks = Array.from({ length: count }, (_, n) => {
    const bytes = randomBytes(size + (n % 7));
    return { cid: chunkCid(bytes), bytes };
  });
  const root = chunkCid(randomBytes(32), RAW);
  const set = new ChunkSet(
    root,
    chunks.map(({ cid, bytes }) => ({ cid, size: bytes.length })),
  );
  return { set, chunks };
}

export async function fill(store: ChunkStore, chunks: Iterable<Chunk>): Promise<void> {
  for (const { cid, bytes } of chunks) await store.put(cid, bytes);
}

export async function holdsAll(store: ChunkStore, chunks: Iterable<Chunk>): Promise<boolean> {
  const signal = new AbortController().signal;
  for (const { cid, bytes } of chunks) {
    const held = await store.get(cid, { signal });
    if (held === undefined || Buffer.compare(held, bytes) !== 0) return false;
  }
  return true;
}

/** A signal that fails the test when it takes longer than it ever should. */
export function soon(ms = 20_000): { readonly signal: AbortSignal; readonly priority: 'foreground' } {
  return { signal: AbortSignal.timeout(ms), priority: 'foreground' };
}

interface Line {
  readonly sentence: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** A log that remembers what was said. */
export function recordingLog(): { readonly log: Log; readonly lines: readonly Line[] } {
  const lines: Line[] = [];
  const write = (sentence: string, fields: Readonly<Record<string, unknown>> = {}) =>
    void lines.push({ sentence, fields });
  const log: Log = { debug: write, info: write, warn: write, error: write, with: () => log };
  return { log, lines };
}
