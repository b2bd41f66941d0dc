import { read } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { Gate } from '../content/gate.ts';
import type { Log } from '../observe/log.ts';
import type { Segment } from './segment.ts';

/** Read files kept open, and reads under way; the active segment's writer has one descriptor more. */
const WIDTH = 32;

interface OpenFile {
  readonly handle: Promise<FileHandle>;
  /** Once it is open. */
  descriptor: number | undefined;
  uses: number;
}

/**
 * Positioned reads from segments, with a bounded number of descriptors. A segment may be retired while it is read:
 * its file goes when the last read is done.
 */
export class SegmentReader {
  readonly #log: Log;
  readonly #gate = new Gate(WIDTH);
  /** In order of use, oldest first. */
  readonly #files = new Map<Segment, OpenFile>();

  constructor(deps: { readonly log: Log }) {
    this.#log = deps.log;
  }

  /** Fills `into` from `offset`; returns the bytes read, fewer when the file ends. */
  async read(segment: Segment, offset: number, into: Uint8Array, signal: AbortSignal): Promise<number> {
    segment.readers++;
    try {
      const turn = this.#gate.enter(signal);
      if (turn) await turn;
      try {
        return await this.#read(segment, offset, into);
      } finally {
        this.#gate.leave();
      }
    } finally {
      segment.readers--;
      if (segment.retired && segment.readers === 0) await this.#remove(segment);
    }
  }

  /** Nothing points into `segment` any more: removes its file, now or after the reads under way. */
  async retire(segment: Segment): Promise<void> {
    segment.retired = true;
    if (segment.readers === 0) await this.#remove(segment);
  }

  async close(): Promise<void> {
    for (const segment of [...this.#files.keys()]) await this.#close(segment);
  }

  async #read(segment: Segment, offset: number, into: Uint8Array): Promise<number> {
    const file = this.#files.get(segment) ?? { handle: open(segment.path, 'r'), descriptor: undefined, uses: 0 };
    file.uses++;
    this.#files.delete(segment);
    this.#files.set(segment, file);
    try {
      if (this.#files.size > WIDTH) await this.#closeIdle();
      file.descriptor ??= (await file.handle).fd;
      return await readAt(file.descriptor, offset, into);
    } catch (error) {
      this.#files.delete(segment);
      throw error;
    } finally {
      file.uses--;
    }
  }

  async #closeIdle(): Promise<void> {
    for (const [segment, { uses }] of this.#files) if (uses === 0) return this.#close(segment);
  }

  async #close(segment: Segment): Promise<void> {
    const open = this.#files.get(segment);
    this.#files.delete(segment);
    await (await open?.handle)?.close();
  }

  async #remove(segment: Segment): Promise<void> {
    await this.#close(segment);
    await rm(segment.path, { force: true });
    this.#log.debug('segment removed', { segment: segment.path });
  }
}

/** Fills `into` from `offset` of an open file, as far as it goes. FileHandle's own `read` costs more per call. */
function readAt(descriptor: number, offset: number, into: Uint8Array): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  let filled = 0;
  const more = () =>
    read(descriptor, into, filled, into.length - filled, offset + filled, (error, got) => {
      if (error) return reject(error);
      filled += got;
      if (got === 0 || filled === into.length) resolve(filled);
      else more();
    });
  more();
  return promise;
}
