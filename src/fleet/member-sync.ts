import { createHash } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { Log } from '../observe/log.ts';
import type { MemberStore } from './member-store.ts';
import type { MemberChange, Members } from './members.ts';
import { StatementsSchema } from './membership_pb.ts';
import { STATEMENT_BYTES, StatementRefused } from './statement.ts';
import type { TrustList } from './trust-list.ts';

/** Whether a gossiped statement is passed on; rejected is what no honest member passes on. */
type Hearing = 'accept' | 'ignore' | 'reject';

/** What the swarm does for this room. */
export interface MemberNetwork {
  /** Connected members. */
  peers(): string[];
  ask(
    peer: string,
    name: string,
    options: { readonly signal: AbortSignal; readonly maxBytes: number },
  ): Promise<Uint8Array | undefined>;
  serve(prefix: string, provider: (name: string, from: string) => Promise<Uint8Array | undefined>): void;
  announce(topic: string, bytes: Uint8Array): Promise<void>;
  subscribe(topic: string, on: (bytes: Uint8Array, from: string) => Hearing): void;
  onConnect(on: (peer: string) => void): void;
}

export interface MemberSyncDeps {
  readonly network: MemberNetwork;
  readonly members: Members;
  readonly store: MemberStore;
  readonly log: Log;
  /** Somebody joined, left, was renewed or moved. */
  onChange(change: MemberChange): void;
  /** The peer sent what no key of the fleet has signed. */
  blame(peer: string): void;
}

export interface MemberSyncOptions {
  /** Mean time between two comparisons with some peer, milliseconds. @default 60000 */
  readonly compareMs: number;
}

const PREFIX = 'members/';
const DIGESTS = `${PREFIX}digests`;
/** Peers are told apart by the first bits of their ids' hashes, so that little is sent where little differs. */
const BUCKETS = 16;
const DIGEST_BYTES = 32;
/** 1,024 members of a bucket with all that can be said of each. */
const MAX_BUCKET_BYTES = 2 * 1024 * 1024;
/** Of the news of a bucket that were asked for, so many are passed on by gossip as well, revocations first. */
const MAX_PASSED_ON = 64;
const MAX_QUEUE = 256;
/** Peers that are compared with at a time: some may never answer, and who tells a revocation must not wait for them. */
const WORKERS = 16;
/** Signatures are checked so many at a time, between which the loop turns. */
const BATCH = 32;
/** Of so many gossiped statements it is remembered what they were worth: who says one again costs no signature. */
const MAX_WEIGHED = 1024;

/**
 * Keeps all nodes of a fleet of one mind about its members: what is new is gossiped, and who meets compares what they
 * know, so that a site that was cut off for a month knows all after one connection. Whoever brings a statement, it
 * counts by its signature alone.
 */
export class MemberSync implements AsyncDisposable {
  readonly #deps: MemberSyncDeps;
  readonly #topic: string;
  readonly #over = new AbortController();
  readonly #queue = new Set<string>();
  readonly #running = new Set<Promise<unknown>>();
  readonly #timer: NodeJS.Timeout;
  readonly #weighed = new Map<string, Hearing>();
  /** Of what is known now; forgotten when that changes. */
  #digests: Uint8Array | undefined;
  #workers = 0;

  constructor(deps: MemberSyncDeps, { compareMs = 60_000 }: Partial<MemberSyncOptions> = {}) {
    this.#deps = deps;
    const { network, members } = deps;
    this.#topic = `/bootmesh/members/1.0.0/${members.trust.fleetId}`;
    network.serve(PREFIX, async (name) => this.#answer(name));
    network.subscribe(this.#topic, (bytes, from) => this.#weigh(bytes, from));
    network.onConnect((peer) => this.#compare(peer));
    for (const peer of network.peers()) this.#compare(peer);
    this.#timer = setInterval(
      () => {
        const peers = network.peers();
        const peer = peers[Math.floor(Math.random() * peers.length)];
        if (peer !== undefined) this.#compare(peer);
      },
      compareMs * (0.8 + 0.4 * Math.random()),
    ).unref();
  }

  /** Takes a statement of this node's own; on disk when it resolves, and on its way. Rejects with `StatementRefused`. */
  async say(bytes: Uint8Array): Promise<void> {
    const change = this.#deps.members.hear(bytes);
    if (change === undefined) return;
    this.#changed(change);
    await this.#deps.store.flush();
    this.#announce(bytes);
  }

  /** Statements that somebody carried here: how many were news, which are on disk when it resolves, and how many count not. */
  async take(statements: readonly Uint8Array[]): Promise<{ readonly news: number; readonly refused: number }> {
    let refused = 0;
    const news = await this.#takeEach(statements, () => {
      refused += 1;
      return true;
    });
    await this.#deps.store.flush();
    for (const bytes of news.slice(0, MAX_PASSED_ON)) this.#announce(bytes);
    return { news: news.length, refused };
  }

  /** `members` heard something elsewhere. */
  heard(change: MemberChange): void {
    this.#changed(change);
  }

  /** The fleet's keys say otherwise who may admit. What was refused under the old list is asked for again. */
  judge(trust: TrustList): void {
    this.#weighed.clear();
    this.#changed(this.#deps.members.judge(trust));
    for (const peer of this.#deps.network.peers()) this.#compare(peer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort(new DOMException('the agent stops', 'AbortError'));
    clearInterval(this.#timer);
    await Promise.allSettled(this.#running);
  }

  #compare(peer: string): void {
    if (this.#over.signal.aborted || (!this.#queue.has(peer) && this.#queue.size >= MAX_QUEUE)) return;
    this.#queue.add(peer);
    if (this.#workers < WORKERS) this.#track(this.#work());
  }

  async #work(): Promise<void> {
    this.#workers += 1;
    try {
      for (const peer of this.#queue) {
        this.#queue.delete(peer);
        await this.#learn(peer).catch((error: unknown) => {
          this.#deps.log.debug('members not compared', { peer, error });
        });
      }
    } finally {
      this.#workers -= 1;
    }
  }

  async #learn(peer: string): Promise<void> {
    const { network } = this.#deps;
    const { signal } = this.#over;
    signal.throwIfAborted();
    const theirs = await network.ask(peer, DIGESTS, { signal, maxBytes: BUCKETS * DIGEST_BYTES });
    if (theirs?.length !== BUCKETS * DIGEST_BYTES) return;
    for (let bucket = 0; bucket < BUCKETS; bucket += 1) {
      if (digestAt(theirs, bucket).equals(digestAt(this.#ownDigests(), bucket))) continue;
      const bytes = await network.ask(peer, `${PREFIX}${bucket}`, { signal, maxBytes: MAX_BUCKET_BYTES });
      if (bytes === undefined) continue;
      const news = await this.#hear(fromBinary(StatementsSchema, bytes).statements, peer);
      for (const statement of news.slice(0, MAX_PASSED_ON)) this.#announce(statement);
    }
  }

  /** Of a gossiped one: what is news goes on, what is known not, and a lie is held against who tells it. */
  #weigh(bytes: Uint8Array, from: string): Hearing {
    const { members, log, blame } = this.#deps;
    if (this.#over.signal.aborted) return 'ignore';
    const name = bytes.length > STATEMENT_BYTES ? '' : createHash('sha256').update(bytes).digest('base64');
    let worth = name === '' ? 'reject' : this.#weighed.get(name);
    if (worth === undefined) {
      try {
        const change = members.hear(bytes);
        this.#remember(name, 'ignore');
        if (change === undefined) return 'ignore';
        this.#changed(change);
        return 'accept';
      } catch (error) {
        if (!(error instanceof StatementRefused)) throw error;
        log.debug('statement refused', { peer: from, reason: error.reason, error });
        // What another statement may change is not remembered.
        if (!isLie(error)) return 'ignore';
        worth = 'reject';
        this.#remember(name, worth);
      }
    }
    if (worth === 'reject') blame(from);
    return worth;
  }

  #remember(name: string, worth: Hearing): void {
    this.#weighed.set(name, worth);
    const [oldest] = this.#weighed.keys();
    if (this.#weighed.size > MAX_WEIGHED && oldest !== undefined) this.#weighed.delete(oldest);
  }

  /** Resolves to those that were news. */
  async #hear(statements: readonly Uint8Array[], from: string): Promise<Uint8Array[]> {
    const { log, blame } = this.#deps;
    return await this.#takeEach(statements, (error) => {
      log.debug('statement refused', { peer: from, reason: error.reason, error });
      if (isLie(error)) blame(from);
      return !isLie(error);
    });
  }

  /** @param goOn asked about each that does not count @returns those that were news */
  async #takeEach(
    statements: readonly Uint8Array[],
    goOn: (error: StatementRefused) => boolean,
  ): Promise<Uint8Array[]> {
    const news: Uint8Array[] = [];
    for (const [index, bytes] of statements.entries()) {
      if (index % BATCH === BATCH - 1) await turn(undefined, { signal: this.#over.signal });
      try {
        const change = this.#deps.members.hear(bytes);
        if (change === undefined) continue;
        news.push(bytes);
        this.#changed(change);
      } catch (error) {
        if (!(error instanceof StatementRefused)) throw error;
        if (!goOn(error)) break;
      }
    }
    return news;
  }

  #changed(change: MemberChange): void {
    const { members, store, onChange } = this.#deps;
    this.#digests = undefined;
    store.keep(() => members.statements());
    onChange(change);
  }

  #answer(name: string): Uint8Array | undefined {
    if (name === DIGESTS) return this.#ownDigests();
    const bucket = Number(name.slice(PREFIX.length));
    if (!Number.isInteger(bucket) || bucket < 0 || bucket >= BUCKETS) return undefined;
    const statements = inBuckets(this.#deps.members)[bucket] ?? [];
    return toBinary(StatementsSchema, create(StatementsSchema, { statements }));
  }

  #ownDigests(): Uint8Array {
    this.#digests ??= digests(this.#deps.members);
    return this.#digests;
  }

  #announce(bytes: Uint8Array): void {
    if (this.#over.signal.aborted) return;
    const sent = this.#deps.network.announce(this.#topic, bytes);
    this.#track(sent.catch((error: unknown) => this.#deps.log.debug('a statement was not announced', { error })));
  }

  #track(work: Promise<unknown>): void {
    const tracked = work.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }
}

/** The other reasons may come of another trust list than ours, at either end. */
function isLie({ reason }: StatementRefused): boolean {
  return reason === 'malformed' || reason === 'signature';
}

/** One sha256 per bucket, of the statements in the order of their bytes: whoever knows the same has the same. */
function digests(members: Members): Uint8Array {
  const all = inBuckets(members).map((statements) => {
    const hash = createHash('sha256');
    for (const bytes of statements.toSorted(Buffer.compare)) hash.update(bytes);
    return hash.digest();
  });
  return Buffer.concat(all);
}

/** In each of them in an order in which they can be heard. */
function inBuckets(members: Members): Uint8Array[][] {
  const buckets: Uint8Array[][] = Array.from({ length: BUCKETS }, () => []);
  for (const { peerId, bytes } of members.said()) buckets[bucketOf(peerId)]?.push(bytes);
  return buckets;
}

function bucketOf(peerId: string): number {
  return (createHash('sha256').update(peerId).digest()[0] ?? 0) % BUCKETS;
}

function digestAt(digests: Uint8Array, bucket: number): Buffer {
  return Buffer.from(digests.subarray(bucket * DIGEST_BYTES, (bucket + 1) * DIGEST_BYTES));
}
