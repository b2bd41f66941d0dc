import { EventEmitter } from 'node:events';
import { isDeepStrictEqual } from 'node:util';
import type { Log } from '../observe/log.ts';
import { CandidateRefused } from './candidate.ts';
import { sha256 } from './chain.ts';
import { DOCUMENT_BYTES, MAX_CHANNELS, type ReadDocument, TIMESTAMP } from './document.ts';
import { hedged } from './hedged.ts';
import { Ledger, type LedgerDeps, type LedgerOptions, timestampDigest, type Verdict } from './ledger.ts';
import { type MetadataNetwork, PeerQuestions, type PeerQuestionsOptions } from './peer-questions.ts';
import { readRepository } from './publisher.ts';
import { channelName } from './release.ts';
import { type FleetFacts, fleetOf } from './trust-root.ts';
import type { VerifiedRelease } from './trusted-state.ts';

/** What happened, per event. */
export interface ReleaseEvents {
  /** `current(channel)` moved on. */
  'release:new': [VerifiedRelease];
  /** The metadata of a channel's release is out of date. */
  'release:stale': [VerifiedRelease];
  /** Two valid timestamps of one version: whoever holds the online key said two things. Both are kept and gossiped. */
  'release:fork': [{ readonly version: number; readonly ours: Buffer; readonly theirs: Buffer; readonly from: string }];
  /** What the fleet's keys say of its membership is another thing than before. */
  'trust:new': [trust: unknown];
  /** A peer sent what does not verify. Reason `rollback` accuses the online key, not the peer. */
  'release:refuse': [
    { readonly peer: string; readonly document: string; readonly reason: string; readonly error: Error },
  ];
}

export interface ChannelsDeps extends LedgerDeps {
  readonly network: MetadataNetwork;
}

export interface ChannelsOptions extends LedgerOptions, Partial<PeerQuestionsOptions> {
  /** Mean time between two rounds of asking, milliseconds. @default 180000 */
  readonly refreshMs?: number;
  /** For one candidate from one peer, milliseconds. @default 20000 */
  readonly attemptMs?: number;
  /** After so long the next peer is tried as well, milliseconds. @default 1000 */
  readonly staggerMs?: number;
}

export interface RefreshReport {
  /** Peers that were asked, and that answered with a timestamp at all. */
  readonly asked: number;
  readonly answered: number;
  /** Version of the newest timestamp that verifies, 0 before there is one. */
  readonly version: number;
  readonly updated: boolean;
}

/** A repository that does not verify from this node's root, or is behind what the node has seen. */
export class AdoptRefused extends Error {
  readonly code = 'ADOPT_REFUSED';

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'AdoptRefused';
  }
}

const PREFIX = 'release/';
const MAX_INBOX = 256;
const WORKERS = 4;
const MAX_KNOWN_FORKS = 64;

/**
 * The newest verified release of every channel, got from whoever has it. A state is taken when it verifies and is newer,
 * whoever brings it; a peer's lie costs that peer's answer only. Nothing else is stored, served, gossiped or returned.
 */
export class Channels implements AsyncDisposable {
  readonly facts: FleetFacts;
  readonly #events: EventEmitter = new EventEmitter();
  readonly #network: MetadataNetwork;
  readonly #log: Log;
  readonly #ledger: Ledger;
  readonly #questions: PeerQuestions;
  readonly #options: Required<Pick<ChannelsOptions, 'refreshMs' | 'attemptMs' | 'staggerMs'>>;
  readonly #topic: string;
  readonly #closed = new AbortController();
  /** One slot per peer: what it announced last, or undefined to ask it. */
  readonly #inbox = new Map<string, Buffer | undefined>();
  readonly #running = new Set<Promise<unknown>>();
  readonly #forks = new Set<string>();
  readonly #saidStale = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #workers = 0;

  private constructor(deps: ChannelsDeps, options: ChannelsOptions, ledger: Ledger) {
    const { refreshMs = 180_000, attemptMs = 20_000, staggerMs = 1000, askPeers = 8, askMs = 5000 } = options;
    this.facts = fleetOf(Buffer.from(options.trustRoot));
    this.#network = deps.network;
    this.#log = deps.log;
    this.#ledger = ledger;
    this.#options = { refreshMs, attemptMs, staggerMs };
    this.#questions = new PeerQuestions(deps.network, PREFIX, { askPeers, askMs });
    this.#topic = `/bootmesh/release/1.0.0/${this.facts.fleet}`;
  }

  /** Serves and listens at once; what was verified before is current at once, the network comes after. */
  static async open(deps: ChannelsDeps, options: ChannelsOptions): Promise<Channels> {
    const wrong = (options.follow ?? []).find((channel) => !channelName.safeParse(channel).success);
    if (wrong !== undefined) throw new RangeError(`${JSON.stringify(wrong)} is no channel that a fleet can have`);
    if ((options.follow?.length ?? 0) > MAX_CHANNELS)
      throw new RangeError(`more than ${MAX_CHANNELS} channels followed`);
    fleetOf(Buffer.from(options.trustRoot)); // An operator's mistake is told before anything is touched.
    const channels = new Channels(deps, options, await Ledger.open(deps, options));
    channels.#start();
    return channels;
  }

  /** The release that this node may run. When it is `stale`, what runs goes on and nothing is newly installed. Cheap. */
  current(channel: string): VerifiedRelease | undefined {
    return this.#ledger.release(channel);
  }

  /** What the newest verified state says of membership; undefined where it says nothing. */
  get trust(): unknown {
    return this.#ledger.trust;
  }

  /** When the first of the fleet's metadata expires, milliseconds of the epoch; undefined before there is any. */
  get expires(): number | undefined {
    return this.#ledger.expires;
  }

  /** All signed metadata that was verified here, by name: by it another node comes to the same state. */
  get documents(): ReadonlyMap<string, Buffer> {
    return this.#ledger.documents;
  }

  /** The newest release of the channel that this node has had complete, also when a newer one is known. */
  held(channel: string): VerifiedRelease | undefined {
    return this.#ledger.held(channel);
  }

  /** This node has all of `release`: a restart will know that, and can go on with it while a newer one arrives. */
  async hold(release: VerifiedRelease): Promise<void> {
    await this.#ledger.hold(release);
  }

  /** Every channel that has a release here. */
  list(): VerifiedRelease[] {
    return this.#ledger.releases();
  }

  /** Returns what ends the subscription. */
  on<E extends keyof ReleaseEvents>(event: E, listener: (...facts: ReleaseEvents[E]) => void): () => void {
    this.#events.on(event, listener);
    return () => void this.#events.off(event, listener);
  }

  /** Asks several peers and takes the highest version that verifies. Peers that fail or lie are passed over. */
  async refresh({ signal }: { readonly signal: AbortSignal }): Promise<RefreshReport> {
    const own = AbortSignal.any([signal, this.#closed.signal]);
    const before = this.#ledger.version;
    const { asked, answers } = await this.#questions.round(TIMESTAMP, DOCUMENT_BYTES.timestamp, own, (peer, error) =>
      this.#refused(peer, peer, error),
    );
    const promises = Map.groupBy(answers, ({ bytes }) => sha256(bytes));
    await Promise.all(
      [...promises.values()].map(async (same) => {
        const peers = same.map(({ peer }) => peer);
        const [first] = same;
        if (first === undefined) return;
        await this.#consider(first.bytes, peers, own).catch((error) =>
          this.#log.debug('no peer of a newer release could prove it', { peers, error }),
        );
      }),
    );
    own.throwIfAborted();
    if (this.#ledger.version > before) this.#announce();
    this.#sayStale();
    return { asked, answered: answers.length, version: this.#ledger.version, updated: this.#ledger.version > before };
  }

  /** Takes a state that somebody carried here, if it is newer, through the same checks as everyone's. */
  async take(
    documents: ReadonlyMap<string, Uint8Array>,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<boolean> {
    const timestamp = Buffer.from(documents.get(TIMESTAMP) ?? []);
    if (this.#ledger.compare(timestamp) !== 'newer') return false;
    const own = AbortSignal.any([signal, this.#closed.signal]);
    await this.#advance(timestamp, async (name) => documents.get(name), own);
    this.#announce();
    return true;
  }

  /** Takes the publisher's own newest state, through the same checks as everyone's. Rejects with `AdoptRefused`. */
  async adopt(repository: string, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    const read: ReadDocument = (name) => readRepository(repository, name);
    const timestamp = await read(TIMESTAMP, DOCUMENT_BYTES.timestamp);
    if (timestamp === undefined)
      throw new AdoptRefused(`${repository} has no ${TIMESTAMP}: nothing was published there`);
    try {
      const bytes = Buffer.from(timestamp);
      const verdict = this.#ledger.compare(bytes);
      if (verdict === 'newer') await this.#advance(bytes, read, AbortSignal.any([signal, this.#closed.signal]));
      if (verdict !== 'newer' && verdict !== 'same') {
        const advice = 'it may be an old copy: restore the newest one before you publish';
        throw new Error(`it is ${verdict ?? 'damaged'}, the fleet is at ${this.#ledger.version}; ${advice}`);
      }
    } catch (cause) {
      throw new AdoptRefused(`${repository} was not taken: ${(cause as Error).message}`, { cause });
    }
    this.#announce();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort(new DOMException('the channels are closed', 'AbortError'));
    clearTimeout(this.#timer);
    await Promise.allSettled(this.#running);
    await this.#ledger.settled();
  }

  #start(): void {
    this.#network.serve(PREFIX, async (name) => this.#ledger.document(name.slice(PREFIX.length)));
    this.#network.subscribe(this.#topic, (bytes, from) => {
      this.#receive(from, bytes);
      return this.#ledger.weigh(Buffer.from(bytes));
    });
    this.#network.onConnect((peer) => this.#receive(peer));
    this.#sayStale();
    for (const peer of this.#network.peers()) this.#receive(peer);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#closed.signal.aborted) return;
    this.#timer = setTimeout(
      () => {
        const round = this.refresh({ signal: this.#closed.signal })
          .catch((error) => this.#log.debug('asking for releases failed', { error }))
          .finally(() => this.#schedule());
        this.#track(round);
      },
      this.#options.refreshMs * (0.8 + 0.4 * Math.random()), // Nodes that started together do not stay together.
    ).unref();
  }

  #track(work: Promise<unknown>): void {
    const tracked = work.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }

  /** A peer connected (no bytes: ask it), or announced a timestamp. */
  #receive(peer: string, bytes?: Uint8Array): void {
    if (this.#closed.signal.aborted) return;
    if (!this.#inbox.has(peer) && this.#inbox.size >= MAX_INBOX) return; // The next round of asking finds it.
    this.#inbox.set(peer, bytes && Buffer.from(bytes.subarray(0, DOCUMENT_BYTES.timestamp + 1)));
    if (this.#workers < WORKERS) this.#track(this.#work());
  }

  async #work(): Promise<void> {
    this.#workers += 1;
    try {
      for (const [peer, announced] of this.#inbox) {
        this.#inbox.delete(peer);
        await this.#hear(peer, announced).catch((error) =>
          this.#log.debug('a peer brought no newer release', { peer, error }),
        );
      }
    } finally {
      this.#workers -= 1;
    }
  }

  async #hear(peer: string, announced: Buffer | undefined): Promise<void> {
    const { signal } = this.#closed;
    signal.throwIfAborted();
    const before = this.#ledger.version;
    const bytes = announced ?? (await this.#askTimestamp(peer, signal));
    if (bytes === undefined) return;
    // For what is not signed by the keys that we know, only its sender is asked: noise must not make traffic.
    const others = this.#ledger.vouches(bytes) ? this.#questions.pick().filter((other) => other !== peer) : [];
    await this.#consider(bytes, [peer, ...others], signal);
    // Gossip carries itself; what was learned by asking, this node's own neighbours may not know yet.
    if (announced === undefined && this.#ledger.version > before) this.#announce();
  }

  async #askTimestamp(peer: string, signal: AbortSignal): Promise<Buffer | undefined> {
    try {
      return await this.#questions.ask(peer, TIMESTAMP, DOCUMENT_BYTES.timestamp, signal);
    } catch (error) {
      this.#refused(peer, peer, error);
      throw error;
    }
  }

  /** `peers`: who sent `timestamp` first, then others that may hold the documents behind it. */
  async #consider(timestamp: Buffer, peers: readonly string[], signal: AbortSignal): Promise<void> {
    const [origin = ''] = peers;
    if ((await this.#compare(timestamp, origin)) !== 'newer') return;
    const attempts = peers.map((peer) => async (options: { signal: AbortSignal }) => {
      const limited = AbortSignal.any([options.signal, AbortSignal.timeout(this.#options.attemptMs)]);
      const read: ReadDocument = (name, maxBytes) => this.#questions.ask(peer, name, maxBytes, limited);
      try {
        await this.#advance(timestamp, read, limited);
      } catch (error) {
        if (error instanceof CandidateRefused) this.#refused(peer, origin, error);
        // A full disk, for example: our own fault, which the next round meets again.
        else if (!limited.aborted) this.#log.error('verified release metadata could not be kept', { error });
        throw error;
      }
    });
    await hedged(attempts, { signal, staggerMs: this.#options.staggerMs });
    // Of two timestamps of one new version the other may have been taken.
    await this.#compare(timestamp, origin);
  }

  async #advance(timestamp: Buffer, read: ReadDocument, signal: AbortSignal): Promise<void> {
    const before = this.#ledger.trust;
    for (const release of await this.#ledger.advance(timestamp, read, signal)) {
      const { channel, version, digest } = release;
      this.#log.info('new release', { channel, version, digest });
      this.#emit('release:new', release);
    }
    if (!isDeepStrictEqual(before, this.#ledger.trust)) this.#emit('trust:new', this.#ledger.trust);
    this.#sayStale();
  }

  /** Reports what no honest peer sends: no timestamp at all, or a second one of the version that is believed. */
  async #compare(timestamp: Buffer, from: string): Promise<Verdict> {
    let verdict: Verdict;
    try {
      verdict = this.#ledger.compare(timestamp);
      if (verdict === undefined) throw new CandidateRefused('invalid', TIMESTAMP, 'is no timestamp');
    } catch (error) {
      this.#refused(from, from, error);
      return undefined;
    }
    if (verdict === 'fork') await this.#forked(timestamp, from);
    return verdict;
  }

  async #forked(theirs: Buffer, from: string): Promise<void> {
    const digest = timestampDigest(theirs);
    const ours = this.#ledger.document(TIMESTAMP);
    if (ours === undefined || this.#forks.has(digest) || this.#forks.size >= MAX_KNOWN_FORKS) return;
    this.#forks.add(digest);
    const { version } = this.#ledger;
    await this.#ledger.keepFork(theirs);
    this.#log.error('two signed timestamps of one version: the online key is misused', { version, from, digest });
    this.#emit('release:fork', { version, ours, theirs, from });
    this.#announce(ours);
    this.#announce(theirs);
  }

  /** Tells of a lie. `peer` sent the documents, `origin` the timestamp that they were fetched for. */
  #refused(peer: string, origin: string, error: unknown): void {
    if (!(error instanceof CandidateRefused)) {
      this.#log.debug('a peer gave no answer about releases', { peer, error });
      return;
    }
    const { reason, document, message } = error;
    if (reason === 'unavailable' || reason === 'expired') return;
    // A timestamp is only its sender's fault, and only when the sender's own roots do not explain it.
    if (document === TIMESTAMP && peer !== origin) return;
    this.#log.warn('release metadata refused', { peer, document, reason, message });
    this.#emit('release:refuse', { peer, document, reason, error });
  }

  /** A listener's fault is its own: it must not look like a release that was not taken. */
  #emit<E extends keyof ReleaseEvents>(event: E, ...facts: ReleaseEvents[E]): void {
    try {
      this.#events.emit(event, ...facts);
    } catch (error) {
      this.#log.error('a listener of a release event failed', { event, error });
    }
  }

  #announce(bytes = this.#ledger.document(TIMESTAMP)): void {
    if (bytes === undefined || this.#closed.signal.aborted) return;
    const sent = this.#network.announce(this.#topic, bytes);
    this.#track(sent.catch((error) => this.#log.debug('a timestamp was not announced', { error })));
  }

  #sayStale(): void {
    for (const release of this.list()) {
      const { channel, version, expires, stale, digest } = release;
      if (!stale) {
        this.#saidStale.delete(channel);
      } else if (!this.#saidStale.has(channel)) {
        this.#saidStale.add(channel);
        this.#log.warn('STALE: the release metadata is out of date', { channel, version, expires, digest });
        this.#emit('release:stale', release);
      }
    }
  }
}
