import { CandidateRefused } from './candidate.ts';

export type Hearing = 'accept' | 'ignore' | 'reject';

/** How this room reaches other members. Documents are small; nothing that a peer says is believed for who it is. */
export interface MetadataNetwork {
  /** Peer ids of connected members. */
  peers(): string[];
  /** Undefined when the peer has none of that name. Rejects when it cannot be reached or sends more than `maxBytes`. */
  ask(
    peer: string,
    name: string,
    options: { readonly signal: AbortSignal; readonly maxBytes: number },
  ): Promise<Uint8Array | undefined>;
  /** Answers questions for names that start with `prefix`; `name` is the whole name. */
  serve(prefix: string, provider: (name: string, from: string) => Promise<Uint8Array | undefined>): void;
  announce(topic: string, bytes: Uint8Array): Promise<void>;
  /** What `on` returns decides whether it is passed on; rejected is what no honest member passes on. */
  subscribe(topic: string, on: (bytes: Uint8Array, from: string) => Hearing): void;
  onConnect(on: (peer: string) => void): void;
}

export interface PeerQuestionsOptions {
  /** Peers asked in one round, at least 3: with fewer, one stale peer decides what this node knows. @default 8 */
  readonly askPeers: number;
  /** For one answer, milliseconds. @default 5000 */
  readonly askMs: number;
}

export interface Answer {
  readonly peer: string;
  readonly bytes: Buffer;
}

/** Who is asked next, and for how long: whoever was not asked for the longest time, so that every peer has its turn. */
export class PeerQuestions {
  readonly #network: MetadataNetwork;
  readonly #prefix: string;
  readonly #options: PeerQuestionsOptions;
  /** Peer to the number of the round in which it was asked. */
  #asked = new Map<string, number>();
  #round = 0;

  constructor(network: MetadataNetwork, prefix: string, options: PeerQuestionsOptions) {
    if (options.askPeers < 3) throw new RangeError(`askPeers is ${options.askPeers}: ask at least 3 peers`);
    this.#network = network;
    this.#prefix = prefix;
    this.#options = options;
  }

  /** Those whose turn it is, in random order among equals. */
  pick(): string[] {
    const turns = this.#network.peers().map((peer) => ({ peer, last: this.#asked.get(peer) ?? 0, tie: Math.random() }));
    turns.sort((a, b) => a.last - b.last || a.tie - b.tie);
    return turns.slice(0, this.#options.askPeers).map(({ peer }) => peer);
  }

  /** Asks those whose turn it is, at once; `onError` hears of each that failed. */
  async round(
    name: string,
    maxBytes: number,
    signal: AbortSignal,
    onError: (peer: string, error: unknown) => void,
  ): Promise<{ asked: number; answers: Answer[] }> {
    const peers = this.pick();
    this.#round += 1;
    const connected = new Set(this.#network.peers());
    this.#asked = new Map([...this.#asked].filter(([peer]) => connected.has(peer)));
    for (const peer of peers) this.#asked.set(peer, this.#round);
    const answers = await Promise.all(
      peers.map(async (peer) => {
        try {
          const bytes = await this.ask(peer, name, maxBytes, signal);
          return bytes === undefined ? [] : [{ peer, bytes }];
        } catch (error) {
          onError(peer, error);
          return [];
        }
      }),
    );
    return { asked: peers.length, answers: answers.flat() };
  }

  /** Rejects with `CandidateRefused` when the answer is too long, and when none comes in time. */
  async ask(peer: string, name: string, maxBytes: number, signal: AbortSignal): Promise<Buffer | undefined> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(this.#options.askMs)]);
    limited.throwIfAborted();
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(limited.reason);
    limited.addEventListener('abort', onAbort, { once: true });
    try {
      const answer = this.#network.ask(peer, `${this.#prefix}${name}`, { signal: limited, maxBytes });
      const bytes = await Promise.race([answer, aborted]);
      if (bytes === undefined) return undefined;
      if (bytes.length <= maxBytes) return Buffer.from(bytes);
      throw new CandidateRefused('oversize', name, `${name} has ${bytes.length} bytes, more than ${maxBytes}`);
    } finally {
      limited.removeEventListener('abort', onAbort);
    }
  }
}
