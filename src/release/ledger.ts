import { canonicalize } from '@tufjs/canonical-json';
import { Metadata, MetadataKind, type Timestamp } from '@tufjs/models';
import type { Disk } from '../disk/durable-file.ts';
import type { Log } from '../observe/log.ts';
import { CandidateRefused, fetchCandidate } from './candidate.ts';
import { sha256 } from './chain.ts';
import { DOCUMENT_BYTES, type Documents, type ReadDocument, TIMESTAMP } from './document.ts';
import { MetadataStore } from './metadata-store.ts';
import type { Hearing } from './peer-questions.ts';
import { readRoot, Unauthentic } from './trust-root.ts';
import { advance, heldOf, hold, releaseOf, type TrustedState, type VerifiedRelease } from './trusted-state.ts';

/** The time by which expiry is judged, milliseconds of the epoch. */
export interface ReleaseClock {
  now(): number;
  /** A release that verified was issued then: no clock is right that is behind that, unless the publisher's was wrong. */
  signed(at: number): void;
}

export interface LedgerDeps {
  readonly log: Log;
  /** @default the machine's, whatever it says */
  readonly clock?: ReleaseClock;
  readonly disk?: Disk;
}

export interface LedgerOptions {
  /** Where verified metadata is kept. */
  readonly directory: string;
  /** The root.json that the operator gave this node. */
  readonly trustRoot: Uint8Array;
  /** Channels that this node follows: a newer state without them is of no use to it. @default [] */
  readonly follow?: readonly string[];
}

/** How a timestamp compares with what is believed; `undefined` when it is none. */
export type Verdict = 'newer' | 'same' | 'older' | 'fork' | undefined;

const MACHINE_CLOCK: ReleaseClock = { now: Date.now, signed: () => undefined };

/** The newest state that this node verified, kept on disk. It only ever moves forward, whoever brings the next one. */
export class Ledger {
  readonly #log: Log;
  readonly #clock: ReleaseClock;
  readonly #store: MetadataStore;
  readonly #anchor: Buffer;
  readonly #follow: readonly string[];
  #state: TrustedState | undefined;
  #commits: Promise<unknown> = Promise.resolve();
  #attempts = 0;

  private constructor({ log, clock = MACHINE_CLOCK }: LedgerDeps, options: LedgerOptions, store: MetadataStore) {
    this.#log = log;
    this.#clock = clock;
    this.#store = store;
    this.#anchor = Buffer.from(options.trustRoot);
    this.#follow = options.follow ?? [];
    this.#state = store.state;
    this.#clock.signed(this.#state?.issued ?? 0);
  }

  static async open(deps: LedgerDeps, options: LedgerOptions): Promise<Ledger> {
    const { log, disk } = deps;
    const anchor = Buffer.from(options.trustRoot);
    return new Ledger(
      deps,
      options,
      await MetadataStore.open(options.directory, anchor, disk ? { log, disk } : { log }),
    );
  }

  /** Version of the newest timestamp, 0 before there is one. */
  get version(): number {
    return this.#state?.chain.timestamp.signed.version ?? 0;
  }

  /** A verified document, by its TUF name. */
  document(name: string): Buffer | undefined {
    return this.#state?.documents.get(name);
  }

  /** When the first of the fleet's metadata expires, milliseconds of the epoch; undefined before there is any. */
  get expires(): number | undefined {
    return this.#state?.chain.expires;
  }

  /** What the fleet says of its membership; undefined where it says nothing, or nothing is known yet. */
  get trust(): unknown {
    return this.#state?.chain.trust;
  }

  /** All that was verified, by name; empty before there is anything. */
  get documents(): ReadonlyMap<string, Buffer> {
    return this.#state?.documents ?? new Map();
  }

  release(channel: string): VerifiedRelease | undefined {
    return this.#state && releaseOf(this.#state, channel, this.#clock.now());
  }

  /** The newest release that this node has had complete, as it told with `hold`. */
  held(channel: string): VerifiedRelease | undefined {
    return this.#state && heldOf(this.#state, channel, this.#clock.now());
  }

  /** This node has `release` complete: its proof is kept until a newer one is held. Nothing when it is not the newest. */
  async hold({ channel, digest }: VerifiedRelease): Promise<void> {
    const commit = this.#commits.then(async () => {
      const state = this.#state;
      if (state?.installed.get(channel)?.digest !== digest || state.held.get(channel)?.digest === digest) return;
      const next = hold(state, channel);
      await this.#store.save(next);
      this.#state = next;
    });
    this.#commits = commit.catch(() => undefined);
    await commit;
  }

  releases(): VerifiedRelease[] {
    return [...(this.#state?.installed.keys() ?? [])].flatMap((channel) => this.release(channel) ?? []);
  }

  /** By version and content alone; only `fork` has had its signature checked (a forged one throws `CandidateRefused`). */
  compare(timestamp: Buffer): Verdict {
    const theirs = parseTimestamp(timestamp);
    const version = theirs?.signed.version ?? 0;
    if (theirs === undefined || !Number.isSafeInteger(version) || version < 1) return undefined;
    const ours = this.#state?.chain;
    if (ours === undefined || version > this.version) return 'newer';
    if (version < this.version) return 'older';
    try {
      // White space and signatures do not count: two documents say the same when their signed parts do.
      if (canonicalize(theirs.signed.toJSON()) === canonicalize(ours.timestamp.signed.toJSON())) return 'same';
      ours.root.verifyDelegate('timestamp', theirs);
      return 'fork';
    } catch (cause) {
      throw new CandidateRefused('invalid', TIMESTAMP, (cause as Error).message, { cause });
    }
  }

  /** True when the keys that are trusted now signed `timestamp`; those of a newer root may be others. */
  vouches(timestamp: Buffer): boolean {
    const theirs = parseTimestamp(timestamp);
    const root = this.#state?.chain.root ?? readRoot(this.#anchor);
    try {
      if (theirs === undefined) return false;
      root.verifyDelegate('timestamp', theirs);
      return true;
    } catch {
      return false;
    }
  }

  /**
   * Whether a gossiped timestamp is passed on: a newer one that is signed is, and so is a second one of our version,
   * of which all should hear. One that only a root that we lack may vouch for is asked for, and not passed on.
   */
  weigh(timestamp: Buffer): Hearing {
    if (timestamp.length > DOCUMENT_BYTES.timestamp) return 'reject';
    try {
      const verdict = this.compare(timestamp);
      if (verdict === undefined) return 'reject';
      return verdict === 'fork' || (verdict === 'newer' && this.vouches(timestamp)) ? 'accept' : 'ignore';
    } catch (error) {
      if (!(error instanceof CandidateRefused)) throw error;
      return 'ignore';
    }
  }

  /** The second timestamp of the version that is believed. */
  keepFork(timestamp: Buffer): Promise<void> {
    return this.#store.keepFork(this.version, timestamp);
  }

  /**
   * Moves to the state that `timestamp` promises, if all of it verifies, and resolves to the channels' new releases (none
   * when the ledger is there already). Rejects with `CandidateRefused`.
   */
  async advance(timestamp: Buffer, read: ReadDocument, signal: AbortSignal): Promise<VerifiedRelease[]> {
    const base = this.#state;
    const documents = await this.#fetch(base, timestamp, read);
    signal.throwIfAborted();
    const commit = this.#commits.then(() => this.#commit(base, timestamp, documents));
    this.#commits = commit.catch(() => undefined);
    return commit;
  }

  /** Resolves when nothing is being written. */
  async settled(): Promise<void> {
    await this.#commits;
  }

  #fetch(base: TrustedState | undefined, timestamp: Buffer, read: ReadDocument): Promise<Documents> {
    const required = new Set([...this.#follow, ...(base?.installed.keys() ?? [])]);
    const scratch = this.#store.scratch(String(this.#attempts++));
    return fetchCandidate({ base, anchor: this.#anchor, timestamp, read, required, scratch, now: this.#clock.now() });
  }

  /** The only writer of the state, one call at a time. */
  async #commit(base: TrustedState | undefined, timestamp: Buffer, fetched: Documents): Promise<VerifiedRelease[]> {
    if (this.compare(timestamp) !== 'newer') return [];
    // The state moved on meanwhile: what was fetched is judged again, against what is believed now.
    const again = base !== this.#state;
    const documents = again ? await this.#fetch(this.#state, timestamp, async (name) => fetched.get(name)) : fetched;
    const previous = this.#state;
    const next = this.#judge(documents);
    await this.#store.save(next);
    this.#state = next;
    this.#clock.signed(next.issued);
    this.#log.info('release metadata updated', { version: this.version });
    return this.releases().filter(({ channel, digest }) => previous?.installed.get(channel)?.digest !== digest);
  }

  #judge(documents: Documents): TrustedState {
    try {
      const now = this.#clock.now();
      const next = advance(this.#state, documents, this.#anchor, now);
      if (next.chain.expires > now) return next;
      throw new CandidateRefused('expired', TIMESTAMP, 'the metadata has expired');
    } catch (cause) {
      if (!(cause instanceof Unauthentic)) throw cause;
      throw new CandidateRefused('invalid', cause.document, cause.message, { cause });
    }
  }
}

/** The digest of what a timestamp says, however it is written. */
export function timestampDigest(bytes: Buffer): string {
  return sha256(Buffer.from(canonicalize(parseTimestamp(bytes)?.signed.toJSON() ?? null)));
}

function parseTimestamp(bytes: Buffer): Metadata<Timestamp> | undefined {
  if (bytes.length > DOCUMENT_BYTES.timestamp) return undefined;
  try {
    return Metadata.fromJSON(MetadataKind.Timestamp, JSON.parse(bytes.toString('utf8')));
  } catch {
    return undefined;
  }
}
