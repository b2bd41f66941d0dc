import { rename } from 'node:fs/promises';
import { durableDisk } from '../disk/durable-file.ts';
import { readGuarded } from '../disk/guarded-file.ts';
import type { Log } from '../observe/log.ts';
import { STATEMENT_BYTES } from './statement.ts';

export interface MemberStoreOptions {
  /** What is heard within this time is written together, milliseconds. @default 500 */
  readonly settleMs: number;
}

const MAGIC = Buffer.from('bootmesh-members 1\n');
const MAX_FILE_BYTES = 64 * 1024 * 1024;

/**
 * Statements on disk: each with its length in front (2 bytes, big endian), in a file that is replaced as a whole. Each
 * is signed, so that a damaged file loses what is damaged, and nothing false is read from it.
 */
export class MemberStore implements AsyncDisposable {
  readonly #file: string;
  readonly #log: Log;
  readonly #settleMs: number;
  #source: (() => Iterable<Uint8Array>) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(file: string, { log }: { readonly log: Log }, { settleMs = 500 }: Partial<MemberStoreOptions> = {}) {
    this.#file = file;
    this.#log = log;
    this.#settleMs = settleMs;
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
    this.#timer ??= setTimeout(() => {
      this.#write().catch((error: unknown) => this.#log.error('members cannot be written', { error }));
    }, this.#settleMs);
  }

  /** Resolves when what was to be kept is on disk; rejects when it cannot be written. */
  async flush(): Promise<void> {
    await this.#write();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#write();
  }

  async #write(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const source = this.#source;
    this.#source = undefined;
    if (source !== undefined) {
      this.#writing = this.#writing
        .catch(() => undefined)
        .then(() => durableDisk.replace(this.#file, format(source())))
        .catch((error: unknown) => {
          this.#source ??= source;
          throw error;
        });
    }
    await this.#writing;
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
