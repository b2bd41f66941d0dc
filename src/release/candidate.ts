import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Fetcher, Updater } from 'tuf-js';
import { DownloadHTTPError, DownloadLengthMismatchError } from 'tuf-js/dist/error.js';
import { readChain, readChannel, readChannelTarget } from './chain.ts';
import {
  DOCUMENT_BYTES,
  type Documents,
  MAX_CHANNELS,
  MAX_ROOT_STEPS,
  type ReadDocument,
  releaseName,
  releasePath,
  rootName,
  TIMESTAMP,
} from './document.ts';
import { MAX_RELEASE_BYTES } from './release.ts';
import { readRoot, Unauthentic } from './trust-root.ts';
import type { TrustedState } from './trusted-state.ts';

/**
 * A newer state that this node does not take. `unavailable` and `expired` are nobody's lie; `oversize` and `invalid` are
 * that of whoever sent `document`; `rollback` means that the fleet's own keys signed an older state as a newer one.
 */
export class CandidateRefused extends Error {
  readonly code = 'CANDIDATE_REFUSED';
  readonly reason: 'unavailable' | 'expired' | 'oversize' | 'invalid' | 'rollback';
  readonly document: string;

  constructor(reason: CandidateRefused['reason'], document: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'CandidateRefused';
    this.reason = reason;
    this.document = document;
  }
}

export interface Candidate {
  /** What is believed so far. */
  readonly base: TrustedState | undefined;
  /** The operator's root. */
  readonly anchor: Buffer;
  /** The timestamp that promises a newer state. */
  readonly timestamp: Buffer;
  /** Reads the rest, from a peer or from anywhere. */
  readonly read: ReadDocument;
  /** Channels without which the state is of no use here. */
  readonly required: ReadonlySet<string>;
  /** An empty or missing directory for tuf-js, which works on files; deleted afterwards. */
  readonly scratch: string;
  /** Milliseconds of the epoch, never behind the time floor. */
  readonly now: number;
}

/** Fetches the documents of a candidate and has tuf-js judge them. Rejects with `CandidateRefused`. */
export async function fetchCandidate(candidate: Candidate): Promise<Documents> {
  const { scratch } = candidate;
  try {
    await writeBase(candidate);
    return await new Judgement(candidate).run();
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** What tuf-js compares against: under its own names, in a directory of its own. */
async function writeBase({ base, anchor, scratch }: Candidate): Promise<void> {
  await rm(scratch, { recursive: true, force: true });
  await mkdir(join(scratch, 'targets'), { recursive: true, mode: 0o700 });
  const files = new Map<string, Buffer>([['root', newestRoot(base, anchor)]]);
  if (base !== undefined) {
    const [timestamp, snapshot, targets] = base.chain.names.slice(-3);
    const own = { timestamp, snapshot, targets, ...Object.fromEntries(base.chain.channels) };
    for (const [role, name] of Object.entries(own)) {
      const bytes = name === undefined ? undefined : base.documents.get(name);
      if (bytes !== undefined) files.set(role, bytes);
    }
  }
  for (const [role, bytes] of files) await writeFile(join(scratch, `${role}.json`), bytes);
}

function newestRoot(base: TrustedState | undefined, anchor: Buffer): Buffer {
  const version = base?.chain.root.signed.version ?? 0;
  return base?.documents.get(rootName(version)) ?? anchor;
}

class Judgement {
  readonly #candidate: Candidate;
  readonly #updater: Updater;
  readonly #documents: Map<string, Buffer>;
  /** Why the last document did not come: tuf-js keeps only the text of an error's cause. */
  #missing: CandidateRefused | undefined;

  constructor(candidate: Candidate) {
    this.#candidate = candidate;
    this.#documents = new Map(candidate.base?.documents);
    this.#documents.set(rootName(readRoot(candidate.anchor).signed.version), candidate.anchor);
    this.#updater = new Updater({
      metadataDir: candidate.scratch,
      metadataBaseUrl: DOCUMENT_BASE,
      targetDir: join(candidate.scratch, 'targets'),
      targetBaseUrl: `${DOCUMENT_BASE}/targets`,
      fetcher: new DocumentFetcher(candidate.scratch, (name, maxBytes) => this.#read(name, maxBytes)),
      config: {
        maxRootRotations: MAX_ROOT_STEPS,
        maxDelegations: MAX_CHANNELS + 1,
        rootMaxLength: DOCUMENT_BYTES.root,
        timestampMaxLength: DOCUMENT_BYTES.timestamp,
        snapshotMaxLength: DOCUMENT_BYTES.snapshot,
        targetsMaxLength: DOCUMENT_BYTES.targets,
        prefixTargetsWithHash: true,
      },
    });
  }

  async run(): Promise<Documents> {
    const { anchor, required } = this.#candidate;
    try {
      await this.#updater.refresh();
    } catch (cause) {
      throw this.#missing ?? this.#explain(cause);
    }
    for (const [channel, name] of this.#chain(anchor).channels) {
      if (name === undefined) continue;
      const fault = await this.#fetchChannel(channel, name);
      if (fault === undefined) continue;
      if (required.has(channel) || fault.reason !== 'unavailable') throw fault;
      this.#documents.delete(name);
    }
    return this.#documents;
  }

  async #fetchChannel(channel: string, name: string): Promise<CandidateRefused | undefined> {
    this.#missing = undefined;
    try {
      const target = await this.#updater.getTargetInfo(releasePath(channel));
      if (target === undefined) return invalid(name, `has no ${releasePath(channel)}`);
      if (target.length > MAX_RELEASE_BYTES) return invalid(name, `names a release of ${target.length} bytes`);
      await this.#updater.downloadTarget(target);
      return undefined;
    } catch (cause) {
      return this.#missing ?? (await this.#expired(channel, name, cause));
    }
  }

  /** tuf-js gives up on a channel that has expired; others may still want its documents, and what runs its proof. */
  async #expired(channel: string, name: string, cause: unknown): Promise<CandidateRefused | undefined> {
    try {
      const chain = this.#chain(this.#candidate.anchor);
      const { digest, expires } = readChannelTarget(chain, this.#documents, channel, name);
      await this.#read(releaseName(channel, digest), MAX_RELEASE_BYTES);
      if (this.#missing !== undefined) return this.#missing;
      readChannel(chain, this.#documents, channel, name);
      return expires <= this.#candidate.now ? undefined : invalid(name, (cause as Error).message, cause);
    } catch (error) {
      return this.#missing ?? invalid(name, (error as Error).message, error);
    }
  }

  async #read(name: string, maxBytes: number): Promise<Buffer | undefined> {
    if (name === TIMESTAMP) return this.#keep(name, this.#candidate.timestamp);
    // Releases are named by their hash; a version number may name other bytes on the other side of a fork.
    const known = name.startsWith('targets/') ? this.#documents.get(name) : undefined;
    if (known !== undefined) return known;
    const limit = Math.min(maxBytes, limitOf(name));
    let bytes: Uint8Array | undefined;
    try {
      bytes = await this.#candidate.read(name, limit);
    } catch (cause) {
      this.#missing = cause instanceof CandidateRefused ? cause : unavailable(name, (cause as Error).message, cause);
      throw this.#missing;
    }
    if (bytes === undefined) {
      // The walk along the roots ends at the first that is not there.
      if (!isRoot(name)) this.#missing = unavailable(name, 'is not there');
      return undefined;
    }
    if (bytes.length > limit) {
      this.#missing = new CandidateRefused('oversize', name, `${name} has ${bytes.length} bytes, more than ${limit}`);
      throw this.#missing;
    }
    return this.#keep(name, Buffer.from(bytes));
  }

  #keep(name: string, bytes: Buffer): Buffer {
    this.#documents.set(name, bytes);
    return bytes;
  }

  #chain(anchor: Buffer): ReturnType<typeof readChain> {
    try {
      return readChain(this.#documents, anchor);
    } catch (cause) {
      throw invalid(cause instanceof Unauthentic ? cause.document : TIMESTAMP, (cause as Error).message, cause);
    }
  }

  /** Why tuf-js refused documents that all came: they are not authentic, or they are and their time is over. */
  #explain(cause: unknown): CandidateRefused {
    try {
      const { expires } = this.#chain(this.#candidate.anchor);
      // tuf-js judges by the machine's clock alone; the ledger judges what it accepts again, by the fleet's.
      const reason = expires <= Math.max(this.#candidate.now, Date.now()) ? 'expired' : 'rollback';
      return new CandidateRefused(reason, TIMESTAMP, (cause as Error).message, { cause });
    } catch (error) {
      return error instanceof CandidateRefused ? error : invalid(TIMESTAMP, (error as Error).message, error);
    }
  }
}

const ROOT = /^\d+\.root\.json$/;
const isRoot = (name: string): boolean => ROOT.test(name);

/** tuf-js takes a length from signed metadata where there is one; ours is the upper bound of that. */
function limitOf(name: string): number {
  if (name.startsWith('targets/')) return MAX_RELEASE_BYTES;
  if (isRoot(name)) return DOCUMENT_BYTES.root;
  return name.endsWith('.snapshot.json') ? DOCUMENT_BYTES.snapshot : DOCUMENT_BYTES.targets;
}

function invalid(document: string, message: string, cause?: unknown): CandidateRefused {
  return new CandidateRefused('invalid', document, message, { cause });
}

function unavailable(document: string, message: string, cause?: unknown): CandidateRefused {
  return new CandidateRefused('unavailable', document, `${document} ${message}`, { cause });
}

/** Where tuf-js is told that the documents are; never resolved by anyone. */
const DOCUMENT_BASE = 'bootmesh://documents';

/**
 * What tuf-js fetches with. A document that is not there is an HTTP 404 to it: that is how its walk along the roots ends,
 * and any other error would fail the whole refresh.
 */
class DocumentFetcher implements Fetcher {
  readonly #directory: string;
  readonly #read: ReadDocument;

  constructor(directory: string, read: ReadDocument) {
    this.#directory = directory;
    this.#read = read;
  }

  async downloadBytes(url: string, maxLength: number): Promise<Buffer> {
    const name = decodeURIComponent(url.slice(DOCUMENT_BASE.length + 1));
    const bytes = await this.#read(name, maxLength);
    if (bytes === undefined) throw new DownloadHTTPError(`${name} is not there`, 404);
    if (bytes.length > maxLength) throw new DownloadLengthMismatchError(`${name} has more than ${maxLength} bytes`);
    return Buffer.from(bytes);
  }

  /** Only releases come this way, and they are small. */
  async downloadFile<T>(url: string, maxLength: number, handler: (file: string) => Promise<T>): Promise<T> {
    const bytes = await this.downloadBytes(url, maxLength);
    const file = join(this.#directory, 'download');
    await writeFile(file, bytes);
    return handler(file);
  }
}
