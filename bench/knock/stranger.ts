import { randomBytes } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import type {
  ComponentLogger,
  ConnectionEncrypter,
  Logger,
  MessageStream,
  MultiaddrConnection,
  PrivateKey,
  StreamMuxer,
  Upgrader,
} from '@libp2p/interface';
import { tcp } from '@libp2p/tcp';
import { lpStream } from '@libp2p/utils';
import { multiaddr } from '@multiformats/multiaddr';
import { KnockSchema } from '../../src/admission/admission_pb.ts';
import { ADMISSION_PROTOCOL } from '../../src/admission/protocol.ts';
import { VOUCHED_PROTOCOL, vouched } from '../../src/swarm/vouched.ts';

/** What a stranger does where it is let in so far. */
export type Aim = 'swarm' | 'door';

/** How far one knock got: each has been where those before it were. */
export type Reached = 'nowhere' | 'connected' | 'proven' | 'answered';

interface StrangerFacts {
  readonly privateKey: PrivateKey;
  /** Its own IPv4 address. */
  readonly address: string;
  /** What it shows for a certificate; absent: it does not know that there are any, and speaks plain Noise. */
  readonly certificate?: Uint8Array | undefined;
}

/** Nobody waits for a port longer than this, milliseconds. */
const PATIENCE_MS = 10_000;
const IDENTIFY = '/ipfs/id/1.0.0';
const MULTISTREAM = '/multistream/1.0.0';
const MAX_ANSWER = 16 * 1024;

/**
 * A libp2p peer that is no member: its own key and address, TCP, Noise and Yamux of libp2p itself. Without the rest of
 * a libp2p node, so that a thousand of them knock with what processor they are given and do not spend it on themselves.
 */
export class Stranger {
  readonly #transport: ReturnType<ReturnType<typeof tcp>>;
  readonly #encrypter: ConnectionEncrypter;
  readonly #muxers: ReturnType<ReturnType<typeof yamux>>;
  readonly #facts: StrangerFacts;

  constructor(facts: StrangerFacts) {
    this.#facts = facts;
    const muxers = yamux()();
    const upgrader = { getStreamMuxers: () => new Map([[muxers.protocol, muxers]]) } as unknown as Upgrader;
    const components = { logger: mute, privateKey: facts.privateKey, upgrader, peerId: undefined as never };
    this.#muxers = muxers;
    this.#transport = tcp()(components);
    const own = facts.certificate;
    this.#encrypter =
      own === undefined ? noise()(components) : vouched(noise(), { own: () => own, shown: () => true })(components);
  }

  /** Knocks once, and says how far that led. */
  async knock(target: { readonly host: string; readonly port: number; readonly aim: Aim }): Promise<Reached> {
    let reached: Reached = 'nowhere';
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const upgrade = async (connection: MultiaddrConnection) => {
      reached = 'connected';
      try {
        const muxer = await this.#secure(connection, signal);
        // The other end has taken our last message or is about to refuse us; with an early muxer nothing more is said.
        reached = 'proven';
        if (target.aim === 'swarm') await askWho(muxer, signal);
        else await askIn(muxer, signal);
        reached = 'answered';
      } finally {
        connection.abort(new Error('enough'));
      }
      return undefined as never;
    };
    const upgrader = { upgradeOutbound: upgrade } as unknown as Upgrader;
    const from = { localAddress: this.#facts.address };
    await this.#transport
      .dial(multiaddr(`/ip4/${target.host}/tcp/${target.port}`), { upgrader, signal, ...from })
      .catch(() => undefined);
    return reached;
  }

  async #secure(connection: MultiaddrConnection, signal: AbortSignal): Promise<StreamMuxer> {
    await select(connection, this.#facts.certificate === undefined ? '/noise' : VOUCHED_PROTOCOL, signal);
    const secured = await this.#encrypter.secureOutbound(connection, { signal });
    if (secured.streamMuxer === undefined) await select(secured.connection, this.#muxers.protocol, signal);
    return this.#muxers.createStreamMuxer(secured.connection);
  }
}

/** Asks who is there, as libp2p nodes do first. */
async function askWho(muxer: StreamMuxer, signal: AbortSignal): Promise<void> {
  const stream = await muxer.createStream();
  await select(stream, IDENTIFY, signal);
  await lpStream(stream, { maxDataLength: MAX_ANSWER }).read({ signal });
}

/** Asks for admission, with a secret that nobody has given it. */
async function askIn(muxer: StreamMuxer, signal: AbortSignal): Promise<void> {
  const stream = await muxer.createStream();
  await select(stream, ADMISSION_PROTOCOL, signal);
  const messages = lpStream(stream, { maxDataLength: MAX_ANSWER });
  const facts = { name: 'stranger', wireguardKey: randomBytes(32), secret: randomBytes(16), machine: [] };
  await messages.write(toBinary(KnockSchema, create(KnockSchema, facts)), { signal });
  await messages.read({ signal });
}

/** multistream-select, with no doubt about what the other end speaks. */
async function select(stream: MessageStream, protocol: string, signal: AbortSignal): Promise<void> {
  const messages = lpStream(stream, { maxDataLength: 1024 });
  await messages.writeV([line(MULTISTREAM), line(protocol)], { signal });
  for (const expected of [MULTISTREAM, protocol]) {
    const said = Buffer.from((await messages.read({ signal })).subarray())
      .toString()
      .trimEnd();
    if (said !== expected) throw new Error(`${expected} is not spoken: ${said}`);
  }
  messages.unwrap();
}

function line(text: string): Uint8Array {
  return Buffer.from(`${text}\n`);
}

const silent: Logger = Object.assign(() => undefined, {
  error: () => undefined,
  trace: () => undefined,
  enabled: false,
  newScope: () => silent,
});
const mute: ComponentLogger = { forComponent: () => silent };
