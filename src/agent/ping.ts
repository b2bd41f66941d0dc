import { setTimeout as delay } from 'node:timers/promises';
import { CID } from 'multiformats/cid';
import { OperationError, type OperationInput, type OperationOptions } from '../admin/operations.ts';
import type { PeerLine, PingLine } from '../admin/results.ts';
import { artifactsOf } from '../release/release.ts';
import type { KnownMember } from '../swarm/membership.ts';
import type { MeshNode } from './node.ts';

/** Members that are asked at a time. */
const AT_ONCE = 8;
/** For one member: the connection, where there is none yet, and its answer, milliseconds. */
const PATIENCE_MS = 15_000;
/** Artifacts one of whose chunks is asked for, until one comes. */
const MOST_ARTIFACTS = 4;

/**
 * Asks members for one chunk each, which comes from them and nobody else, and is verified: by which way, and how fast.
 * All that are connected, when none are named. Rejects with `OperationError`.
 */
export async function pingMembers(
  node: MeshNode,
  { members: names }: OperationInput<'ping'>,
  { signal, onProgress }: OperationOptions,
): Promise<{ readonly pings: readonly PingLine[] }> {
  const members = names === undefined ? connectedMembers(node) : names.map((name) => memberCalled(node, name));
  const chunks = await someChunks(node, signal);
  const pings: PingLine[] = [];
  let bytes = 0;
  const queue = members.entries();
  const work = async () => {
    for (const [index, member] of queue) {
      const line = await ping(node, member, chunks, signal);
      pings[index] = line;
      bytes += line.bytes ?? 0;
      onProgress?.({ phase: 'ping', bytes });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return { pings };
}

async function ping(
  node: MeshNode,
  member: KnownMember,
  chunks: readonly CID[],
  outer: AbortSignal,
): Promise<PingLine> {
  const { peerId, name, site } = member;
  const signal = AbortSignal.any([outer, AbortSignal.timeout(PATIENCE_MS)]);
  const facts = () => {
    const line = peerLines(node).find((peer) => peer.peerId === peerId);
    const { path, via, address, lane } = line ?? {};
    return {
      ...{ peerId, site, ...(name !== undefined && { name }) },
      ...{ ...(path && { path }), ...(via && { via }), ...(address && { address }), ...(lane && { lane }) },
    };
  };
  try {
    await connected(node, member, signal);
    for (const cid of chunks) {
      const from = performance.now();
      const bytes = await node.swarm.blockOf(peerId, cid, { signal });
      if (bytes === undefined) continue;
      const ms = Math.round((performance.now() - from) * 10) / 10;
      return { ...facts(), outcome: 'chunk', cid: cid.toString(), bytes: bytes.length, ms };
    }
    return { ...facts(), outcome: 'none' };
  } catch (error) {
    outer.throwIfAborted();
    const why = signal.aborted ? `no answer within ${PATIENCE_MS / 1000} s` : (error as Error).message;
    return { ...facts(), outcome: 'unreachable', why };
  }
}

async function connected({ swarm, membership }: MeshNode, member: KnownMember, signal: AbortSignal): Promise<void> {
  const { peerId } = member;
  const isConnected = () => swarm.connected().includes(peerId);
  if (isConnected()) return;
  const kept = membership.members.some((one) => one.peerId === peerId);
  swarm.meet(member);
  try {
    while (!isConnected()) await delay(50, undefined, { signal });
  } finally {
    // It was met for this alone.
    if (!kept) swarm.forgo(peerId);
  }
}

/** Everybody's line of `peers`: with the way that it is reached by. */
export function peerLines({ swarm, overlay, network, site }: MeshNode): PeerLine[] {
  return swarm.peers().map(({ bannedUntil, ...peer }) => {
    const [, , host = ''] = peer.address?.split('/') ?? [];
    const outside = { path: peer.site === site ? 'lan' : 'wan' } as const;
    const inside = network?.isInside(host) ? ({ path: 'overlay' } as const) : outside;
    const path = overlay?.isInside(host) ? overlay.pathTo(peer.peerId) : inside;
    return {
      ...peer,
      ...(peer.connected && path),
      ...(bannedUntil !== undefined && { bannedUntil: new Date(bannedUntil).toISOString() }),
    };
  });
}

function connectedMembers({ swarm }: MeshNode): KnownMember[] {
  return swarm.peers().flatMap((peer) => (peer.connected ? [{ ...peer, addresses: [] }] : []));
}

function memberCalled({ membership, roster }: MeshNode, called: string): KnownMember {
  const listed = roster.member(called) ?? roster.byName(called);
  if (listed !== undefined) return listed;
  const certified = membership.certified?.members.members ?? [];
  const found = certified.filter(({ peerId, name }) => peerId === called || name === called);
  const [one] = found;
  if (found.length > 1) {
    const ids = found.map(({ peerId, site }) => `${peerId} (${site})`).join(', ');
    throw new OperationError('USAGE', `${found.length} members are called ${called}: say which by peer id: ${ids}`);
  }
  const known = one && (membership.contact(one) ?? { ...one, addresses: [] });
  if (known !== undefined) return known;
  const advice = '`bootmesh peers` and `bootmesh fleet ls` list those that are known';
  throw new OperationError('NOT_FOUND', `no member is called ${called}: ${advice}`);
}

/** One chunk each, by chance, of what is followed or pinned here: members of one fleet mostly have the same. */
async function someChunks({ artifacts, releases, store }: MeshNode, outer: AbortSignal): Promise<CID[]> {
  const signal = AbortSignal.any([outer, AbortSignal.timeout(PATIENCE_MS)]);
  const followed = releases?.channels.list().flatMap(({ release }) => artifactsOf(release).map(([, { cid }]) => cid));
  const pinned = store.pins.list().map(({ cid }) => cid.toString());
  const roots = [...new Set([...(followed ?? []), ...pinned])].slice(0, MOST_ARTIFACTS);
  const chunks: CID[] = [];
  for (const root of roots) {
    // One that is not here yet may be nowhere.
    const manifest = await artifacts.manifest(CID.parse(root), { signal }).catch(() => undefined);
    const all = manifest?.set.chunks ?? [];
    const chunk = all[Math.floor(Math.random() * all.length)];
    if (chunk !== undefined) chunks.push(chunk.cid);
  }
  outer.throwIfAborted();
  if (chunks.length > 0) return chunks;
  const advice = 'publish a release, follow its channel, or pin something first';
  throw new OperationError('NOT_FOUND', `nothing is held here whose chunks others could be asked for: ${advice}`);
}
