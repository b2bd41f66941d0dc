import { rename } from 'node:fs/promises';
import { type Disk, durableDisk } from '../disk/durable-file.ts';
import { readGuarded } from '../disk/guarded-file.ts';
import type { Log } from '../observe/log.ts';
import { STATEMENT_BYTES } from './statement.ts';

export interface MemberStoreOptions {
  /** What is heard within this time is written together, milliseconds. @default 500 */
  readonly settleMs: number;
  /** What could not be written is tried again after so long, then after twice as long and so on, milliseconds. @default 1000 */
  readonly againMs: number;
}

interface Deps {
  readonly log: Log;
  readonly disk?: Disk;
}

const MAGIC = Buffer.from('bootmesh-members 1\n');
const MAX_FILE_BYTES = 64 * 1024 * 1024;
/** Longest pause between two attempts: a disk that was full has room again some time. */
const LONGEST_MS = 60_000;

/**
 * Statements on disk: each with its length in front (2 bytes, big endian), in a file that is replaced as a whole. Each
 * is signed, so that a damaged file loses what is damaged, and nothing false is read from it.
 */
export class MemberStore implements AsyncDisposable {
  readonly #file: string;
  readonly #log: Log;
  readonly #disk: Disk;
  readonly #settleMs: number;
  readonly #againMs: number;
  #failures = 0;
  #closed = false;
  #source: (() => Iterable<Uint8Array>) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(
    file: string,
    { log, disk = durableDisk }: Deps,
    { settleMs = 500, againMs = 1_000 }: Partial<MemberStoreOptions> = {},
  ) {
    this.#file = file;
    this.#log = log;
    this.#disk = disk;
    this.#settleMs = settleMs;
    this.#againMs = againMs;
  }

  /** What was written last. A damaged file is kept beside as `….damaged`; what can be read of it is returned. */
  async read(): Promise<Uint8Array[]> {
    const bytes = await readGuarded(this.#file, { maxBytes: MAX_FILE_BYTES });
    if (bytes === undefined) return [];
    const { statements, whole } = parse(bytes);
    if (!whole) {
      this.#log.error('the file of members is damaged and was set aside', {
        file: `${this.#file}.damaged`,
        statements: statements.length,
      });
      await rename(this.#file, `${this.#file}.damaged`);
    }
    return statements;
  }

  /** Writes all of `source` soon. */
  keep(source: () => Iterable<Uint8Array>): void {
    this.#source = source;
    this.#soon(this.#settleMs);
  }

  /** Resolves when what was to be kept is on disk; rejects when it cannot be written, which is then tried again. */
  async flush(): Promise<void> {
    await this.#write();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.#write();
  }

  #soon(ms: number): void {
    if (this.#closed) return;
    // `#write` has told of it.
    this.#timer ??= setTimeout(() => this.#write().catch(() => undefined), ms);
  }

  async #write(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const source = this.#source;
    this.#source = undefined;
    if (source !== undefined) {
      this.#writing = this.#writing
        .catch(() => undefined)
        .then(() => this.#disk.replace(this.#file, format(source())))
        .then(
          () => this.#wrote(),
          (error: unknown) => this.#failed(source, error),
        );
    }
    await this.#writing;
  }

  #wrote(): void {
    if (this.#failures > 0) this.#log.info('members are written again', { attempts: this.#failures });
    this.#failures = 0;
  }

  #failed(source: () => Iterable<Uint8Array>, error: unknown): never {
    this.#source ??= source;
    const again = Math.min(LONGEST_MS, this.#againMs * 2 ** this.#failures);
    this.#failures += 1;
    // A full disk is told once.
    if (this.#failures === 1) this.#log.error('members cannot be written, and are tried again', { error });
    this.#soon(again);
    // What fails for good does not keep the process from ending.
    this.#timer?.unref();
    throw error;
  }
}

function format(statements: Iterable<Uint8Array>): Buffer {
  const pieces: Uint8Array[] = [MAGIC];
  for (const bytes of statements) {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(bytes.length);
    pieces.push(length, bytes);
  }
  return Buffer.concat(pieces);
}

function parse(bytes: Buffer): { readonly statements: Uint8Array[]; readonly whole: boolean } {
  const statements: Uint8Array[] = [];
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) return { statements, whole: false };
  let at = MAGIC.length;
  while (at + 2 <= bytes.length) {
    const length = bytes.readUInt16BE(at);
    const end = at + 2 + length;
    if (length === 0 || length > STATEMENT_BYTES || end > bytes.length) break;
    statements.push(bytes.subarray(at + 2, end));
    at = end;
  }
  return { statements, whole: at === bytes.length };
}
