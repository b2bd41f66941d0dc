import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { Message as GossipMessage } from '@libp2p/gossipsub';
import { TopicValidatorResult } from '@libp2p/gossipsub';
import type { Stream } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { lpStream, messageStreamToDuplex } from '@libp2p/utils';
import { decode, encode } from 'it-length-prefixed';
import { pipe } from 'it-pipe';
import type { Log } from '../observe/log.ts';
import { DocumentAnswerSchema, DocumentQuestionSchema } from './document_pb.ts';
import { MAX_GOSSIP_BYTES, type SwarmNode } from './node.ts';

export const DOCUMENT_PROTOCOL = '/bootmesh/document/1.0.0';
/** Largest document, bytes. */
export const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024;
/** A name, its limit and their framing. */
const MAX_QUESTION_BYTES = 1024 + 64;
/** One question and its answer, milliseconds. */
const ANSWER_MS = 10_000;

/** The peer's answer is longer than asked for, or none. Ask another peer. */
export class BadAnswer extends Error {
  readonly code = 'BAD_ANSWER';
  readonly peer: string;

  constructor(peer: string, name: string, options?: ErrorOptions) {
    super(`${peer} gave no proper answer to ${name}`, options);
    this.name = 'BadAnswer';
    this.peer = peer;
  }
}

/**
 * What a gossiped document is worth: it is passed on, or goes no further than here. What no honest member passes on is
 * rejected, so that it is held against who did.
 */
export type Hearing = 'accept' | 'ignore' | 'reject';

/** Told of each at once; decides with little work, since anybody's gossip waits for it. */
type Listener = (bytes: Uint8Array, from: string) => Hearing;

const RESULTS = {
  accept: TopicValidatorResult.Accept,
  ignore: TopicValidatorResult.Ignore,
  reject: TopicValidatorResult.Reject,
} as const;

type Provider = (name: string, from: string) => Promise<Uint8Array | undefined>;

/** Small named documents between members: asked for one by one, or gossiped under a topic. */
export class Documents {
  readonly #node: SwarmNode;
  readonly #log: Log;
  readonly #admits: (peerId: string) => boolean;
  readonly #providers = new Map<string, Provider>();
  readonly #subscribers = new Map<string, Listener>();
  readonly #connectListeners: ((peer: string) => void)[] = [];

  private constructor(deps: { readonly node: SwarmNode; readonly log: Log; admits(peerId: string): boolean }) {
    this.#node = deps.node;
    this.#log = deps.log;
    this.#admits = deps.admits;
  }

  static async open(deps: { readonly node: SwarmNode; readonly log: Log; admits(peerId: string): boolean }) {
    const documents = new Documents(deps);
    await deps.node.handle(
      DOCUMENT_PROTOCOL,
      (stream, { remotePeer }) => documents.#answer(stream, remotePeer.toString()),
      { maxInboundStreams: 8, maxOutboundStreams: 16 },
    );
    return documents;
  }

  /** Connected members. */
  peers(): string[] {
    return this.#node.getPeers().map(String).filter(this.#admits);
  }

  /**
   * Undefined when the peer does not have it. Rejects with `BadAnswer` when the peer broke the rules, and with the
   * transport's error when it cannot be reached.
   */
  async ask(
    peer: string,
    name: string,
    options: { readonly signal: AbortSignal; readonly maxBytes: number },
  ): Promise<Uint8Array | undefined> {
    const maxBytes = Math.min(options.maxBytes, MAX_DOCUMENT_BYTES);
    const signal = AbortSignal.any([options.signal, AbortSignal.timeout(ANSWER_MS)]);
    const stream = await this.#node.dialProtocol(peerIdFromString(peer), DOCUMENT_PROTOCOL, { signal });
    try {
      const messages = lpStream(stream, { maxDataLength: maxBytes + 64, maxBufferSize: maxBytes + 128 * 1024 });
      const question = create(DocumentQuestionSchema, { name, maxBytes });
      await messages.write(toBinary(DocumentQuestionSchema, question), { signal });
      const answer = fromBinary(DocumentAnswerSchema, (await messages.read({ signal })).subarray());
      await stream.close({ signal }).catch(() => undefined);
      if (!answer.found) return undefined;
      if (answer.document.length > maxBytes) throw new BadAnswer(peer, name);
      return answer.document;
    } catch (error) {
      stream.abort(error as Error);
      options.signal.throwIfAborted();
      throw error instanceof BadAnswer ? error : new BadAnswer(peer, name, { cause: error });
    }
  }

  /** Answers questions for names that start with `prefix`; the longest matching prefix wins. */
  serve(prefix: string, provider: Provider): void {
    if (this.#providers.has(prefix)) throw new Error(`documents under ${prefix} are served already`);
    this.#providers.set(prefix, provider);
  }

  /** Gossips `bytes` to all members that subscribed to `topic`. */
  async announce(topic: string, bytes: Uint8Array): Promise<void> {
    if (bytes.length > MAX_GOSSIP_BYTES) {
      throw new RangeError(`${bytes.length} bytes are too many for gossip; at most ${MAX_GOSSIP_BYTES}`);
    }
    await this.#node.services.pubsub.publish(topic, bytes);
  }

  /** `from` is the member that announced it, which is not always the one that passed it on. One listener per topic. */
  subscribe(topic: string, on: Listener): void {
    if (this.#subscribers.has(topic)) throw new Error(`somebody listens to ${topic} already`);
    this.#subscribers.set(topic, on);
    const { pubsub } = this.#node.services;
    // Before it is passed on, and not after: what is no member's, too large, or a lie, goes no further than here.
    pubsub.topicValidators.set(topic, (_, message) => RESULTS[this.#hear(message)]);
    pubsub.subscribe(topic);
  }

  /** Called for each member that becomes able to answer. */
  onConnect(on: (peer: string) => void): void {
    this.#connectListeners.push(on);
  }

  /** For the swarm: `peer` is there. */
  connected(peer: string): void {
    for (const on of this.#connectListeners) on(peer);
  }

  #hear(message: GossipMessage): Hearing {
    const from = this.#author(message);
    if (from === undefined || message.data.length > MAX_GOSSIP_BYTES) return 'reject';
    return this.#subscribers.get(message.topic)?.(message.data, from) ?? 'ignore';
  }

  #author(message: GossipMessage): string | undefined {
    const from = message.type === 'signed' ? message.from.toString() : undefined;
    return from !== undefined && this.#admits(from) ? from : undefined;
  }

  async #answer(stream: Stream, from: string): Promise<void> {
    const late = setTimeout(() => stream.abort(new Error('the question took too long')), ANSWER_MS);
    let asked = 0;
    // The duplex buffers what arrives, without a bound of its own.
    stream.addEventListener('message', ({ data }) => {
      asked += data.byteLength;
      if (asked > MAX_QUESTION_BYTES) stream.abort(new Error(`a question of more than ${MAX_QUESTION_BYTES} bytes`));
    });
    try {
      const duplex = messageStreamToDuplex(stream);
      await pipe(
        duplex,
        (bytes) => decode(bytes, { maxDataLength: MAX_QUESTION_BYTES }),
        (questions) => this.#answers(questions, from),
        (answers) => encode(answers),
        duplex,
      );
    } catch (error) {
      this.#log.debug('document not answered', { peer: from, error });
      stream.abort(error as Error);
    } finally {
      clearTimeout(late);
    }
  }

  /** One answer to the first question. */
  async *#answers(questions: AsyncIterable<{ subarray(): Uint8Array }>, from: string): AsyncGenerator<Uint8Array> {
    for await (const question of questions) {
      const { name, maxBytes } = fromBinary(DocumentQuestionSchema, question.subarray());
      const document = await this.#provider(name)?.(name, from);
      const fits = document !== undefined && document.length <= Math.min(maxBytes, MAX_DOCUMENT_BYTES);
      const answer = create(DocumentAnswerSchema, fits ? { found: true, document } : { found: false });
      yield toBinary(DocumentAnswerSchema, answer);
      return;
    }
  }

  #provider(name: string): Provider | undefined {
    const prefixes = [...this.#providers.keys()].filter((prefix) => name.startsWith(prefix));
    const longest = prefixes.sort((a, b) => b.length - a.length)[0];
    return longest === undefined ? undefined : this.#providers.get(longest);
  }
}
