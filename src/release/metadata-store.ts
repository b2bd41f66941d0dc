import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type Disk, DRAFT_PATTERN, durableDisk } from '../disk/durable-file.ts';
import type { Log } from '../observe/log.ts';
import { sha256 } from './chain.ts';
import { restore, type TrustedState } from './trusted-state.ts';

/** A local copy cannot be used and another one is; `file` was set aside. */
interface DamagedCopy {
  readonly file: string;
  readonly error: unknown;
}

/** Two copies of one state, written one after the other: a torn or damaged file leaves the other, never an older node. */
const COPIES = ['state', 'state.copy'];
const MAGIC = 'bootmesh-release-state 1';
const MAX_STATE_BYTES = 64 * 1024 * 1024;
const MAX_FORKS = 16;

const bodySchema = z.strictObject({
  /** The newest `issued` ever trusted. */
  timeFloor: z.int().min(0),
  /** Channel to the document that proves its release. */
  installed: z.record(z.string(), z.string()),
  /** The same of the release that this node has had complete. */
  held: z.record(z.string(), z.string()).default({}),
  /** Name to bytes, base64. */
  documents: z.record(z.string(), z.base64()),
});

/**
 * What this node verified, on disk. A whole state is one file, so there is no half of one; what is read back is verified
 * again from the operator's root on.
 */
export class MetadataStore {
  readonly #directory: string;
  readonly #disk: Disk;
  /** What the store held when it was opened. */
  readonly state: TrustedState | undefined;

  private constructor(directory: string, disk: Disk, state: TrustedState | undefined) {
    this.#directory = directory;
    this.#disk = disk;
    this.state = state;
  }

  /** `anchor` is the operator's root. Damaged copies are set aside as `….damaged` and logged. */
  static async open(
    directory: string,
    anchor: Buffer,
    { log, disk = durableDisk }: { readonly log: Log; readonly disk?: Disk },
  ): Promise<MetadataStore> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    for (const name of await readdir(directory)) {
      if (DRAFT_PATTERN.test(name)) await rm(join(directory, name), { force: true });
    }
    await rm(join(directory, 'scratch'), { recursive: true, force: true });
    const read = await Promise.all(COPIES.map((name) => readCopy(join(directory, name), anchor)));
    for (const copy of read) {
      if (copy === undefined || !('error' in copy)) continue;
      log.error('local release metadata is damaged and was set aside', { file: copy.file, error: copy.error });
      await rename(copy.file, `${copy.file}.damaged`);
    }
    const states = read.flatMap((copy) => (copy === undefined || 'error' in copy ? [] : [copy]));
    const state = states.toSorted((a, b) => versionOf(b) - versionOf(a))[0];
    const store = new MetadataStore(directory, disk, state);
    if (state !== undefined && states.length < COPIES.length) await store.save(state);
    return store;
  }

  /** A directory that nobody else uses, for work on a candidate. */
  scratch(name: string): string {
    return join(this.#directory, 'scratch', name);
  }

  /** Resolves when both copies are on disk. */
  async save(state: TrustedState): Promise<void> {
    const documents = [...state.documents].map(([name, bytes]) => [name, bytes.toString('base64')]);
    const { issued, installed, held } = state;
    const body = Buffer.from(
      JSON.stringify({
        timeFloor: issued,
        installed: proofs(installed),
        held: proofs(held),
        documents: Object.fromEntries(documents),
      }),
    );
    const bytes = Buffer.concat([Buffer.from(`${MAGIC} ${sha256(body)}\n`), body]);
    for (const name of COPIES) await this.#disk.replace(join(this.#directory, name), bytes);
  }

  /** Keeps a second timestamp of one version: the proof that its signer said two things. Bounded. */
  async keepFork(version: number, timestamp: Buffer): Promise<void> {
    const directory = join(this.#directory, 'forks');
    await mkdir(directory, { recursive: true, mode: 0o700 });
    if ((await readdir(directory)).length >= MAX_FORKS) return;
    await this.#disk.create(join(directory, `${version}.${sha256(timestamp).slice(0, 16)}.timestamp.json`), timestamp);
  }
}

function proofs(releases: TrustedState['installed']): Record<string, string> {
  return Object.fromEntries([...releases].map(([channel, evidence]) => [channel, evidence.names[0]]));
}

const versionOf = (state: TrustedState): number => state.chain.timestamp.signed.version;

async function readCopy(file: string, anchor: Buffer): Promise<TrustedState | DamagedCopy | undefined> {
  try {
    const { size } = await stat(file);
    if (size > MAX_STATE_BYTES) throw new RangeError(`${size} bytes`);
    const bytes = await readFile(file);
    const line = bytes.subarray(0, bytes.indexOf(0x0a) + 1);
    const body = bytes.subarray(line.length);
    if (line.toString('latin1') !== `${MAGIC} ${sha256(body)}\n`) throw new Error('its checksum does not match');
    const { timeFloor, installed, held, documents } = bodySchema.parse(JSON.parse(body.toString('utf8')));
    const decoded = Object.entries(documents).map(([name, text]) => [name, Buffer.from(text, 'base64')] as const);
    return restore(
      {
        documents: new Map(decoded),
        installed: new Map(Object.entries(installed)),
        held: new Map(Object.entries(held)),
        issued: timeFloor,
      },
      anchor,
    );
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? undefined : { file, error };
  }
}
