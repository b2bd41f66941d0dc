/**
 * One end of a transfer, as a process of its own: `import`, `send` and `receive` are agents (swarm and pack store),
 * `bare-send` and `bare-receive` are libp2p with nothing on it. Told what to do by the parent's messages.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import type { PrivateKey, Stream } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { tcp } from '@libp2p/tcp';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { CID } from 'multiformats/cid';
import { readManifest } from '../../src/content/manifest.ts';
import { importFile } from '../../src/import/import-file.ts';
import { silentLog } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { PackStore } from '../../src/store/pack-store.ts';
import { corked } from '../../src/swarm/corked.ts';
import { createSwarm, type Swarm } from '../../src/swarm/swarm.ts';
import { TRANSPORT } from '../../src/swarm/transport.ts';

export type Role = 'import' | 'send' | 'receive' | 'bare-send' | 'bare-receive';

export interface Plan {
  readonly role: Role;
  /** The heap and the transport as the agent sets them; as Node and libp2p come otherwise. Agents always are. */
  readonly tuned: boolean;
  readonly directory: string;
  /** Payload, bytes. */
  readonly bytes: number;
  /** Manifest root of the payload; not for `import` and the bare roles. */
  readonly root?: string;
  /** Which lanes agents may use; `auto`: what they choose by themselves on a network that is not trusted. @default stream */
  readonly lane?: LaneChoice;
  /** Where the sender listens; for the receiving roles. */
  readonly address?: string;
}

export type LaneChoice = 'stream' | 'tls' | 'plain' | 'auto';

/** What a process says to its parent, in this order (`import` says only `imported`). */
export type Report =
  | { readonly said: 'imported'; readonly root: string; readonly bytes: number }
  | { readonly said: 'ready'; readonly address: string; readonly idleRssMb: number }
  | { readonly said: 'received'; readonly seconds: number; readonly bytes: number; readonly lane?: string }
  | { readonly said: 'done'; readonly cpuSeconds: number; readonly peakRssMb: number };

const BARE_PROTOCOL = '/bootmesh/bench/bare/1.0.0';
const PIECE = 64 * 1024;
const WINDOW_BYTES = 1024 * 1024;
const unbounded = new AbortController().signal;

const plan = JSON.parse(process.argv[2] ?? '') as Plan;
const started = await start(plan);
process.on('disconnect', () => process.exit(0));
process.once('message', () => {
  // The parent's word: everybody is done. What the work cost is what is asked for, not the shutdown.
  say({ said: 'done', cpuSeconds: cpuSince(started), peakRssMb: statusMb('VmHWM') });
  process.disconnect?.();
});

async function start({ role, directory, bytes, root, address }: Plan): Promise<NodeJS.CpuUsage> {
  switch (role) {
    case 'import': {
      await using store = await PackStore.open(directory, { log: silentLog });
      const { cid, size } = await importFile(noiseOf(bytes), store, { signal: unbounded });
      say({ said: 'imported', root: cid.toString(), bytes: size });
      return process.cpuUsage();
    }
    case 'send': {
      const store = await PackStore.open(directory, { log: silentLog });
      const swarm = await agent(role, store);
      const { set } = await readManifest(CID.parse(root ?? ''), store, { signal: unbounded });
      await swarm.share(set);
      return ready(swarm.addresses()[0] ?? '');
    }
    case 'receive': {
      const store = await PackStore.open(directory, { log: silentLog });
      const swarm = await agent(role, store, address);
      await new Promise<void>((resolve) => swarm.documents.onConnect(() => resolve()));
      const before = ready('');
      const since = performance.now();
      const manifest = await readManifest(CID.parse(root ?? ''), swarm.blocks, { signal: unbounded });
      await swarm.download(manifest.set, { priority: 'foreground', signal: unbounded });
      await store.flush();
      const seconds = (performance.now() - since) / 1000;
      const lane = swarm.peers()[0]?.lane ?? 'none';
      say({ said: 'received', seconds, bytes: manifest.size, lane });
      return before;
    }
    case 'bare-send': {
      const node = await bare();
      await node.handle(BARE_PROTOCOL, (stream) => stream.addEventListener('message', () => void pour(stream, bytes)));
      return ready(String(node.getMultiaddrs()[0]));
    }
    case 'bare-receive': {
      const node = await bare();
      const stream = await node.dialProtocol(multiaddr(address ?? ''), BARE_PROTOCOL);
      const before = ready('');
      const since = performance.now();
      let left = bytes;
      const all = Promise.withResolvers<void>();
      stream.addEventListener('message', ({ data }) => {
        left -= data.byteLength;
        if (left <= 0) all.resolve();
      });
      stream.send(Uint8Array.of(1));
      await all.promise;
      say({ said: 'received', seconds: (performance.now() - since) / 1000, bytes });
      return before;
    }
  }
}

function ready(address: string): NodeJS.CpuUsage {
  say({ said: 'ready', address, idleRssMb: statusMb('VmRSS') });
  return process.cpuUsage();
}

async function agent(role: 'send' | 'receive', store: PackStore, address?: string): Promise<Swarm> {
  const keys = { send: await key(1), receive: await key(2) };
  const ids = new Set(Object.values(keys).map((one) => peerIdFromPrivateKey(one).toString()));
  const sender = peerIdFromPrivateKey(keys.send).toString();
  const members = address === undefined ? [] : [{ peerId: sender, site: 'bench', addresses: [address] }];
  const member = (peer: string) => (ids.has(peer) ? { site: 'bench' } : undefined);
  return createSwarm(
    { store, membership: { member, members }, privateKey: keys[role], log: silentLog, metrics: createMetrics() },
    { listen: role === 'send' ? ['/ip4/127.0.0.1/tcp/0'] : [], lanes: lanesFor(plan.lane ?? 'stream') },
  );
}

function lanesFor(lane: LaneChoice) {
  if (lane === 'auto') return {};
  return { tls: lane === 'tls', plain: lane === 'plain', trusted: ['127.0.0.0/8'] };
}

/** Throw-away identities; the two processes derive the same pair. */
function key(n: number): Promise<PrivateKey> {
  return generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(n));
}

/** libp2p with one connection, one stream, and no work done on the bytes. */
function bare() {
  return createLibp2p({
    addresses: { listen: plan.role === 'bare-send' ? ['/ip4/127.0.0.1/tcp/0'] : [] },
    transports: [tcp(plan.tuned ? TRANSPORT.tcp : {})],
    ...(plan.tuned && { connectionProtector: corked }),
    connectionEncrypters: [noise()],
    streamMuxers: [yamux(plan.tuned ? TRANSPORT.yamux : {})],
  });
}

async function pour(stream: Stream, bytes: number): Promise<void> {
  const piece = randomBytes(WINDOW_BYTES);
  for (let left = bytes; left > 0; left -= PIECE) {
    const at = left % (WINDOW_BYTES - PIECE);
    if (!stream.send(piece.subarray(at, at + Math.min(PIECE, left)))) await stream.onDrain();
  }
}

async function* noiseOf(bytes: number): AsyncGenerator<Uint8Array> {
  for (let left = bytes; left > 0; left -= WINDOW_BYTES) yield randomBytes(Math.min(left, WINDOW_BYTES));
}

function cpuSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

/** VmRSS (now) or VmHWM (the highest it was), from the kernel, in MB. */
function statusMb(field: 'VmRSS' | 'VmHWM'): number {
  const line = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
  return (Number(line?.[1]) * 1024) / 1e6;
}

function say(report: Report): void {
  process.send?.(report);
}
