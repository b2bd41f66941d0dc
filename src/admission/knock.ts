import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { create, toBinary } from '@bufbuild/protobuf';
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import type { Libp2p, PrivateKey } from '@libp2p/interface';
import { tcp } from '@libp2p/tcp';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { proveWireguardKey, type WireguardKey } from '../fleet/wireguard-key.ts';
import { ChallengeSchema, KnockSchema, ProofSchema, type Refusal, VerdictSchema } from './admission_pb.ts';
import type { Admission } from './door.ts';
import { ADMISSION_PROTOCOL, CONVERSATION_MS, converse, MESSAGE_BYTES } from './protocol.ts';
import { AdmissionRefused, REFUSALS, type RefusalReason } from './refusal.ts';
import type { Token } from './token.ts';

export interface KnockFacts {
  readonly token: Token;
  readonly privateKey: PrivateKey;
  readonly wireguardKey: WireguardKey;
  /** What this machine calls itself. */
  readonly name: string;
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

/**
 * Shows the token at the door that it names. What comes back is of the fleet that the token names, and otherwise
 * unchecked: its metadata and statements prove themselves. Rejects with `AdmissionRefused`.
 */
export async function knock(facts: KnockFacts, options: KnockOptions): Promise<Admission> {
  const { signal, patienceMs = 30_000, onRetry } = options;
  const { token, privateKey } = facts;
  const node = await createLibp2p({
    privateKey,
    addresses: { listen: [] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionManager: { dialTimeout: CONVERSATION_MS, reconnectRetries: 0 },
    connectionMonitor: { enabled: false },
  });
  try {
    const until = performance.now() + patienceMs;
    for (;;) {
      try {
        return await ask(node, facts, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof AdmissionRefused && error.reason !== 'busy') throw error;
        const why = error instanceof AdmissionRefused ? error : unreachable(token, error);
        if (performance.now() + AGAIN_MS > until) throw why;
        onRetry?.(why);
      }
      await delay(AGAIN_MS, undefined, { signal });
    }
  } finally {
    await node.stop();
  }
}

async function ask(node: Libp2p, facts: KnockFacts, signal: AbortSignal): Promise<Admission> {
  const { token, wireguardKey, name } = facts;
  const limited = AbortSignal.any([signal, AbortSignal.timeout(2 * CONVERSATION_MS)]);
  const doors = token.addresses.map((address) => multiaddr(`${address}/p2p/${token.peerId}`));
  const connection = await node.dial(doors, { signal: limited });
  try {
    const stream = await connection.newStream(ADMISSION_PROTOCOL, { signal: limited });
    const conversation = converse(stream, MESSAGE_BYTES.verdict, limited);
    const own = create(KnockSchema, {
      secret: token.secret,
      name,
      wireguardKey: Buffer.from(wireguardKey.publicKey, 'base64'),
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
    if (createHash('sha256').update(root).digest('hex') !== token.rootDigest) {
      const advice = 'the token is of a fleet that was made anew since; ask for a new one';
      throw new AdmissionRefused('fleet', `the door belongs to another fleet than the token: ${advice}`);
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
  return new AdmissionRefused(known, message.slice(0, 500));
}

function unreachable(token: Token, cause: unknown): AdmissionRefused {
  const now = Date.now() / 1000;
  if (now > token.notAfter) {
    const ended = new Date(token.notAfter * 1000).toISOString();
    return new AdmissionRefused('expired', `the token's time was over at ${ended}: ask for a new one`, { cause });
  }
  const where = token.addresses.join(', ');
  const advice = 'is the agent that gave out the token running, and may this machine reach that address and port?';
  return new AdmissionRefused('unreachable', `no door answers at ${where}: ${advice}`, { cause });
}
