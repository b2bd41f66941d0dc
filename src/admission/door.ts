import { create } from '@bufbuild/protobuf';
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import type { Connection, Libp2p, PeerDiscovery, PrivateKey, Stream } from '@libp2p/interface';
import { mdns } from '@libp2p/mdns';
import { tcp } from '@libp2p/tcp';
import { getNetConfig } from '@libp2p/utils';
import { createLibp2p } from 'libp2p';
import { MACHINE } from '../fleet/trust-list.ts';
import { isWireguardProof, newWireguardKey, wireguardPublicKey } from '../fleet/wireguard-key.ts';
import { Porter } from '../limits/porter.ts';
import type { Log } from '../observe/log.ts';
import {
  ChallengeSchema,
  KnockSchema,
  ProofSchema,
  type Refusal,
  RefusalSchema,
  VerdictSchema,
  WelcomeSchema,
} from './admission_pb.ts';
import {
  ADMISSION_PROTOCOL,
  CONVERSATION_MS,
  type Conversation,
  converse,
  DOOR_MDNS,
  MAX_MACHINE_IDS,
  MESSAGE_BYTES,
  UNPRINTABLE,
} from './protocol.ts';
import { AdmissionRefused } from './refusal.ts';
import { MAX_DOORS } from './token.ts';

/** A machine at the door. Its peer id is proven; its WireGuard key is, once it is admitted. */
export interface Applicant {
  readonly peerId: string;
  /** What it calls itself. */
  readonly name: string;
  /** Base64. */
  readonly wireguardKey: string;
  /** Of a token; empty without one. */
  readonly secret: Uint8Array;
  /** What it says that it is known by: `mac:…`, `serial:…`, `uuid:…`. Proven by nothing. */
  readonly machine: readonly string[];
}

/** What one who is let in takes along. */
export interface Admission {
  readonly root: Uint8Array;
  readonly documents: ReadonlyMap<string, Uint8Array>;
  readonly statements: readonly Uint8Array[];
}

export interface DoorDeps {
  /** The node's own key: a token names the peer id behind it. */
  readonly privateKey: PrivateKey;
  readonly log: Log;
  /** By which certificates are made here, milliseconds since 1970. @default Date.now */
  now?(): number;
  /** Says no before the applicant has to prove anything. Throws `AdmissionRefused`. */
  consider(applicant: Applicant): void;
  /** Rejects with `AdmissionRefused`. */
  admit(applicant: Applicant): Promise<Admission>;
}

export interface DoorOptions {
  /** Multiaddrs to listen on. @default all IPv4 and IPv6 addresses, port 4003 */
  readonly listen: readonly string[];
  /** At once; more wait in the kernel, briefly. @default 32 */
  readonly connections: number;
  /** Tells machines without a token on this segment where it is. @default false */
  readonly announce: boolean;
}

export const DOOR_DEFAULTS: DoorOptions = {
  listen: ['/ip4/0.0.0.0/tcp/4003', '/ip6/::/tcp/4003'],
  connections: 32,
  announce: false,
};

/** What a machine calls itself, characters. */
const MAX_NAME = 64;
/**
 * Everybody is one here, from the first byte to the last; a conversation takes much less than this, milliseconds. And a
 * machine that waits to be let in knocks again and again.
 */
const STRANGERS = { slowMs: CONVERSATION_MS / 2, ofUnknown: { burst: 16, perSecond: 1 } };
/** @libp2p/mdns asks as well as it answers; a door has nobody to ask for. */
const ASK_MS = 3_600_000;

/**
 * Where strangers knock: a libp2p node of its own, which speaks nothing but the admission protocol, to few at a time and
 * for some seconds. The swarm's own node refuses them, and nothing that happens here takes anything from it.
 */
export class Door implements AsyncDisposable {
  readonly #node: Libp2p;
  readonly #deps: DoorDeps;

  private constructor(node: Libp2p, deps: DoorDeps) {
    this.#node = node;
    this.#deps = deps;
  }

  static async open(deps: DoorDeps, options: Partial<DoorOptions> = {}): Promise<Door> {
    const { listen, connections, announce } = { ...DOOR_DEFAULTS, ...options };
    const porter = new Porter({ ...STRANGERS, strangers: connections });
    const listenOpts = { noDelay: true, blockList: porter.blockList };
    const node = await createLibp2p({
      privateKey: deps.privateKey,
      addresses: { listen: [...listen] },
      transports: [tcp({ maxConnections: connections, backlog: 2 * connections, listenOpts })],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux({ maxInboundStreams: 1, maxOutboundStreams: 1 })],
      connectionGater: {
        denyDialPeer: () => true,
        denyDialMultiaddr: () => true,
        denyInboundConnection: (connection) => {
          porter.met(getNetConfig(connection.remoteAddr).host, connection);
          return false;
        },
      },
      connectionManager: {
        maxConnections: connections,
        maxIncomingPendingConnections: connections,
        inboundConnectionThreshold: connections,
        inboundUpgradeTimeout: CONVERSATION_MS,
        reconnectRetries: 0,
      },
      connectionMonitor: { enabled: false },
      peerDiscovery: announce ? [announced] : [],
    });
    const door = new Door(node, deps);
    node.addEventListener('connection:open', ({ detail }) => endSoon(detail));
    await node.handle(ADMISSION_PROTOCOL, (stream, connection) => door.#answer(stream, connection), {
      maxInboundStreams: 1,
      maxOutboundStreams: 1,
    });
    return door;
  }

  /** Multiaddrs at which others reach it, without the peer id; addresses of other machines only where there are any. */
  addresses(): string[] {
    const all = this.#node.getMultiaddrs().map((address) => address.toString().replace(/\/p2p\/[^/]+$/, ''));
    const outside = all.filter((address) => !/^\/(?:ip4\/127\.|ip6\/::1\/|ip6\/fe80:)/.test(address));
    return (outside.length > 0 ? outside : all).slice(0, MAX_DOORS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#node.stop();
  }

  async #answer(stream: Stream, connection: Connection): Promise<void> {
    const { log } = this.#deps;
    const peerId = connection.remotePeer.toString();
    const signal = AbortSignal.timeout(CONVERSATION_MS);
    const conversation = converse(stream, MESSAGE_BYTES.knock, signal);
    try {
      await this.#receive(conversation, peerId);
      await stream.close({ signal });
    } catch (error) {
      log.info('nobody was let in', { peer: peerId, error });
      stream.abort(error as Error);
    }
  }

  async #receive(conversation: Conversation, peerId: string): Promise<void> {
    const { log, consider, admit, now = Date.now } = this.#deps;
    const { message, bytes } = await conversation.hear(KnockSchema, MESSAGE_BYTES.knock);
    const wireguardKey = Buffer.from(message.wireguardKey).toString('base64');
    const machine = message.machine.slice(0, MAX_MACHINE_IDS).filter((id) => MACHINE.test(id));
    const name = message.name.replaceAll(UNPRINTABLE, '').slice(0, MAX_NAME);
    const applicant = { peerId, name, wireguardKey, secret: message.secret, machine };
    const time = BigInt(Math.floor(now()));
    const early = refusalOf(() => consider(applicant));
    if (early !== undefined) {
      log.info('a machine was refused', { peer: peerId, reason: early.reason });
      const says = { case: 'refusal', value: early } as const;
      return await conversation.say(ChallengeSchema, create(ChallengeSchema, { says, time }));
    }
    const madeUp = newWireguardKey();
    const key = Buffer.from(wireguardPublicKey(madeUp), 'base64');
    await conversation.say(ChallengeSchema, create(ChallengeSchema, { says: { case: 'key', value: key }, time }));
    const { message: proof } = await conversation.hear(ProofSchema, MESSAGE_BYTES.proof);
    try {
      if (!isWireguardProof(proof.mac, madeUp, wireguardKey, bytes)) {
        throw new AdmissionRefused('proof', 'the machine does not have the WireGuard key that it named');
      }
      const { root, documents, statements } = await admit(applicant);
      const named = [...documents].map(([name, document]) => ({ name, bytes: document }));
      const value = create(WelcomeSchema, { root, documents: named, statements: [...statements] });
      await conversation.say(VerdictSchema, create(VerdictSchema, { says: { case: 'welcome', value } }));
      log.info('a machine was let in', { peer: peerId, name: applicant.name });
    } catch (error) {
      const value = wireRefusal(error);
      log.info('a machine was refused', { peer: peerId, reason: value.reason, error });
      await conversation.say(VerdictSchema, create(VerdictSchema, { says: { case: 'refusal', value } }));
    }
  }
}

/** Answers by multicast DNS, and takes nothing in from there. */
function announced(components: Parameters<ReturnType<typeof mdns>>[0]): PeerDiscovery {
  const discovery = mdns({ serviceTag: DOOR_MDNS, interval: ASK_MS })(components);
  discovery.dispatchEvent = () => false;
  return discovery;
}

/** Whoever says nothing is not kept for long, and whoever has said all neither. */
function endSoon(connection: Connection): void {
  setTimeout(() => connection.abort(new Error('the door is for short conversations')), 2 * CONVERSATION_MS).unref();
}

function refusalOf(act: () => void): Refusal | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    return wireRefusal(error);
  }
}

/** What is our own fault is not explained to a stranger. */
function wireRefusal(error: unknown): Refusal {
  const known = error instanceof AdmissionRefused;
  const reason = known ? error.reason : 'busy';
  const message = known ? error.message : 'the issuer cannot admit anybody now: see its log, and try again';
  return create(RefusalSchema, { reason, message });
}
