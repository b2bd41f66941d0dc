import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { create, toBinary } from '@bufbuild/protobuf';
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import type { Libp2p, PrivateKey } from '@libp2p/interface';
import { mdns } from '@libp2p/mdns';
import { tcp } from '@libp2p/tcp';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { proveWireguardKey, type WireguardKey } from '../fleet/wireguard-key.ts';
import { ChallengeSchema, KnockSchema, ProofSchema, type Refusal, VerdictSchema } from './admission_pb.ts';
import type { Admission } from './door.ts';
import { ADMISSION_PROTOCOL, CONVERSATION_MS, converse, DOOR_MDNS, MESSAGE_BYTES, UNPRINTABLE } from './protocol.ts';
import { AdmissionRefused, REFUSALS, type RefusalReason } from './refusal.ts';

/** A door, and what is behind it. A token says all of it. */
export interface DoorFacts {
  /** Hex sha256 of the fleet's root.json. */
  readonly rootDigest: string;
  /** Multiaddrs; without any, doors of this segment are looked for. */
  readonly addresses: readonly string[];
  /** The only one whose door it is; anybody's when absent, since what is behind it proves itself. */
  readonly peerId?: string;
  /** Of a token; empty without one. */
  readonly secret: Uint8Array;
  /** End of the token, seconds since 1970. */
  readonly notAfter?: number;
}

export interface KnockFacts {
  readonly door: DoorFacts;
  readonly privateKey: PrivateKey;
  readonly wireguardKey: WireguardKey;
  /** What this machine calls itself. */
  readonly name: string;
  /** What it is known by: see `machineIds`. */
  readonly machine: readonly string[];
}

export interface KnockOptions {
  readonly signal: AbortSignal;
  /** An unreachable or crowded door is tried for so long, milliseconds. @default 30000 */
  readonly patienceMs?: number;
  /** It did not work yet, and is tried again. */
  onRetry?(error: Error): void;
}

/** Clocks that are further apart than this make a certificate look over or not begun, milliseconds. */
const MAX_SKEW_MS = 240_000;
const AGAIN_MS = 1_000;
/** How often doors of the segment are asked for, milliseconds, and how many are listened to. */
const LOOK_MS = 2_000;
const MAX_DOORS = 8;
/** What may be another answer in a moment. */
const AGAIN: ReadonlySet<RefusalReason> = new Set(['busy', 'pending']);

/**
 * Asks at a door to be let in. What comes back is of the fleet of that root, and otherwise unchecked: its metadata and
 * statements prove themselves. Rejects with `AdmissionRefused`.
 */
export async function knock(facts: KnockFacts, options: KnockOptions): Promise<Admission> {
  const { signal, patienceMs = 30_000, onRetry } = options;
  const { door, privateKey } = facts;
  const found = new Map<string, Multiaddr[]>();
  for (const address of door.addresses) found.set(address, [withPeer(address, door.peerId)]);
  const node = await createLibp2p({
    privateKey,
    addresses: { listen: [] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionManager: { dialTimeout: CONVERSATION_MS, reconnectRetries: 0 },
    connectionMonitor: { enabled: false },
    peerDiscovery: door.addresses.length === 0 ? [mdns({ serviceTag: DOOR_MDNS, interval: LOOK_MS })] : [],
  });
  node.addEventListener('peer:discovery', ({ detail: { id, multiaddrs } }) => {
    if (found.size < MAX_DOORS) found.set(id.toString(), multiaddrs);
  });
  try {
    const until = performance.now() + patienceMs;
    for (;;) {
      try {
        return await askAny(node, [...found.values()], facts, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof AdmissionRefused && !mayChange(error)) throw error;
        const why = error instanceof AdmissionRefused ? error : unreachable(door, error);
        if (performance.now() + AGAIN_MS > until) throw why;
        onRetry?.(why);
      }
      await delay(AGAIN_MS, undefined, { signal });
    }
  } finally {
    await node.stop();
  }
}

/** The first that lets us in; else one that may do so in a moment, and else what the last one said. */
async function askAny(node: Libp2p, doors: Multiaddr[][], facts: KnockFacts, signal: AbortSignal): Promise<Admission> {
  let last: unknown = new Error('none is known yet');
  // Those of a token are one door with several addresses.
  const tried = facts.door.addresses.length > 0 ? [doors.flat()] : doors;
  for (const addresses of tried) {
    try {
      return await ask(node, addresses, facts, signal);
    } catch (error) {
      if (!mayChange(last)) last = error;
    }
  }
  throw last;
}

function mayChange(error: unknown): boolean {
  return error instanceof AdmissionRefused && AGAIN.has(error.reason);
}

async function ask(node: Libp2p, addresses: Multiaddr[], facts: KnockFacts, signal: AbortSignal): Promise<Admission> {
  const { door, wireguardKey, name, machine } = facts;
  const limited = AbortSignal.any([signal, AbortSignal.timeout(2 * CONVERSATION_MS)]);
  const connection = await node.dial(addresses, { signal: limited });
  try {
    const stream = await connection.newStream(ADMISSION_PROTOCOL, { signal: limited });
    const conversation = converse(stream, MESSAGE_BYTES.verdict, limited);
    const own = create(KnockSchema, {
      secret: door.secret,
      name,
      wireguardKey: Buffer.from(wireguardKey.publicKey, 'base64'),
      machine: [...machine],
    });
    await conversation.say(KnockSchema, own);
    const { message: challenge } = await conversation.hear(ChallengeSchema, MESSAGE_BYTES.challenge);
    if (challenge.says.case === 'refusal') throw refusal(challenge.says.value);
    // Before the token is used up.
    checkClock(Number(challenge.time));
    const theirKey = Buffer.from(challenge.says.value ?? []).toString('base64');
    const mac = proveWireguardKey(wireguardKey.privateKey, theirKey, toBinary(KnockSchema, own));
    await conversation.say(ProofSchema, create(ProofSchema, { mac }));
    const { message: verdict } = await conversation.hear(VerdictSchema, MESSAGE_BYTES.verdict);
    if (verdict.says.case === 'refusal') throw refusal(verdict.says.value);
    const { root, documents, statements } = verdict.says.value ?? {
      root: Buffer.alloc(0),
      documents: [],
      statements: [],
    };
    if (createHash('sha256').update(root).digest('hex') !== door.rootDigest) {
      const advice = 'a token of before the fleet was made anew is of no use; ask for a new one';
      throw new AdmissionRefused('fleet', `the door belongs to another fleet than this machine asks for: ${advice}`);
    }
    return { root, documents: new Map(documents.map((each) => [each.name, each.bytes])), statements };
  } finally {
    await connection.close().catch(() => undefined);
  }
}

function checkClock(theirs: number): void {
  const behind = theirs - Date.now();
  if (Math.abs(behind) <= MAX_SKEW_MS) return;
  const minutes = Math.round(Math.abs(behind) / 60_000);
  const how = `${minutes} min ${behind > 0 ? 'behind' : 'ahead of'} the issuer's (${new Date(theirs).toISOString()})`;
  const advice = 'set the wrong one of the two, and run this again; the token was not used up';
  throw new AdmissionRefused('clock', `this machine's clock is ${how}: ${advice}`);
}

function refusal({ reason, message }: Refusal): AdmissionRefused {
  const known = REFUSALS.find((one): one is RefusalReason => one === reason) ?? 'malformed';
  return new AdmissionRefused(known, message.replaceAll(UNPRINTABLE, '').slice(0, 500));
}

function unreachable({ addresses, notAfter = Number.POSITIVE_INFINITY }: DoorFacts, cause: unknown): AdmissionRefused {
  const now = Date.now() / 1000;
  if (now > notAfter) {
    const ended = new Date(notAfter * 1000).toISOString();
    return new AdmissionRefused('expired', `the token's time was over at ${ended}: ask for a new one`, { cause });
  }
  const where = addresses.length > 0 ? `at ${addresses.join(', ')}` : 'on this segment';
  const advice = 'is an agent running there that admits, and may this machine reach that address and port?';
  return new AdmissionRefused('unreachable', `no door answers ${where}: ${advice}`, { cause });
}

function withPeer(address: string, peerId: string | undefined): Multiaddr {
  return multiaddr(peerId === undefined || address.includes('/p2p/') ? address : `${address}/p2p/${peerId}`);
}
