import { type FileHandle, open, statfs } from 'node:fs/promises';
import type { CID } from 'multiformats/cid';
import type { Encoded } from '../content/chunk-source.ts';
import { encodeHeader } from './pack-record.ts';
import { type RecordPlace, Segment } from './segment.ts';

export interface PackWriterOptions {
  /** A segment that reaches this many bytes is closed and the next one begun. */
  readonly segmentBytes: number;
  /** Group commit: synced when this many bytes are unsynced… */
  readonly syncBytes: number;
  /** …or when the oldest unsynced byte is this old, in milliseconds. */
  readonly syncMilliseconds: number;
  /** Appends fail with `StoreFull` when they would leave less than this many bytes free on the disk. */
  readonly reserveBytes: number;
}

/** What the writer tells the store. */
export interface PackWriterDeps {
  /** A new segment takes records from now on. */
  onSegment(segment: Segment): void;
  /** The record is in the file (not yet synced) and can be read. */
  onStored(cid: CID, place: Omit<RecordPlace, 'cid'>, segment: Segment): void;
  /** `segment` is on disk up to `bytes`; awaited before the next sync. */
  onSynced(segment: Segment, bytes: number): Promise<void>;
}

/** The store cannot take more: the disk is full, but for the reserve. GC, a larger disk or lower watermarks help. */
export class StoreFull extends Error {
  readonly code = 'STORE_FULL';

  constructor(path: string, options?: ErrorOptions) {
    super(`no space left for segment ${path}`, options);
    this.name = 'StoreFull';
  }
}

/** A chunk in the form that it is kept in. */
export interface StoredChunk {
  readonly cid: CID;
  readonly stored: Encoded;
  readonly plainBytes: number;
}

interface Job {
  readonly chunk: StoredChunk;
  readonly bytes: Uint8Array;
  readonly done: PromiseWithResolvers<void>;
}

/** One `writev` carries at most this much; two buffers a record stay under IOV_MAX (1024). */
const BATCH_BYTES = 4 * 1024 * 1024;
const BATCH_RECORDS = 256;

/**
 * The one writer of the active segment. Appends are written in order and in batches; the file is synced by bytes and
 * by time, while later batches are being written. An append waits when two groups' worth of bytes are unsynced, which
 * bounds what a power loss can take and what the page cache must hold.
 */
export class PackWriter {
  readonly #directory: string;
  readonly #deps: PackWriterDeps;
  readonly #options: PackWriterOptions;
  readonly #queue: Job[] = [];
  readonly #rotations: PromiseWithResolvers<void>[] = [];
  #last: Promise<void> = Promise.resolve();
  #segment: Segment;
  #file: FileHandle;
  #running: Promise<void> | undefined;
  #syncing: Promise<void> = Promise.resolve();
  #synced: number;
  #timer: NodeJS.Timeout | undefined;
  #failure: Error | undefined;

  private constructor(
    directory: string,
    segment: Segment,
    file: FileHandle,
    deps: PackWriterDeps,
    options: PackWriterOptions,
  ) {
    this.#directory = directory;
    this.#segment = segment;
    this.#file = file;
    this.#synced = segment.size;
    this.#deps = deps;
    this.#options = options;
  }

  /** Goes on in `last` (which is synced), or begins the first segment. */
  static async open(directory: string, last: Segment | undefined, deps: PackWriterDeps, options: PackWriterOptions) {
    const segment = last ?? (await Segment.create(directory, 1));
    if (!last) deps.onSegment(segment);
    return new PackWriter(directory, segment, await open(segment.path, 'r+'), deps, options);
  }

  get segment(): Segment {
    return this.#segment;
  }

  /** Resolves when the record can be read back (see `flush` for when it is durable). Its bytes must not change until. */
  append(chunk: StoredChunk): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    const done = Promise.withResolvers<void>();
    this.#queue.push({ chunk, bytes: chunk.stored.bytes, done });
    this.#last = done.promise;
    this.#running ??= this.#run();
    return done.promise;
  }

  /** Resolves when everything that was appended until now is on disk and in the index. */
  async flush(): Promise<void> {
    // Jobs end in order. That the last one failed is its own caller's affair.
    await this.#last.catch(() => {});
    if (this.#failure) throw this.#failure;
    await this.#sync();
  }

  /** Closes the active segment, between two batches, and begins the next, so that GC may compact the old one. */
  rotate(): Promise<void> {
    const done = Promise.withResolvers<void>();
    this.#rotations.push(done);
    this.#running ??= this.#run();
    return done.promise;
  }

  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      clearTimeout(this.#timer);
      this.#failure ??= new Error('the store is closed');
      await this.#file.close();
    }
  }

  async #run(): Promise<void> {
    // Appends made in this turn of the event loop travel together.
    await Promise.resolve();
    while (this.#queue.length > 0 || this.#rotations.length > 0) {
      const rotation = this.#rotations.shift();
      if (rotation) await this.#rotate().then(rotation.resolve, rotation.reject);
      else await this.#writeBatch();
    }
    this.#running = undefined;
  }

  async #writeBatch(): Promise<void> {
    const jobs = this.#nextBatch();
    try {
      if (this.#failure) throw this.#failure;
      await this.#write(jobs);
    } catch (error) {
      const failure = asStoreFull(error, this.#segment.path);
      for (const job of jobs) job.done.reject(failure);
    }
  }

  #nextBatch(): Job[] {
    const { segmentBytes } = this.#options;
    const { size } = this.#segment;
    const most = Math.min(BATCH_BYTES, size < segmentBytes ? segmentBytes - size : segmentBytes);
    let bytes = 0;
    let count = 0;
    for (const job of this.#queue) {
      if (count > 0 && (bytes + job.bytes.length > most || count >= BATCH_RECORDS)) break;
      bytes += job.bytes.length;
      count++;
    }
    return this.#queue.splice(0, count);
  }

  async #write(jobs: readonly Job[]): Promise<void> {
    await this.#checkRoom(jobs.reduce((sum, job) => sum + job.bytes.length, 0));
    if (this.#segment.size >= this.#options.segmentBytes) await this.#rotate();
    const segment = this.#segment;
    const buffers: Uint8Array[] = [];
    const places: Omit<RecordPlace, 'cid'>[] = [];
    let end = segment.size;
    for (const { chunk, bytes } of jobs) {
      const header = encodeHeader(chunk.cid, chunk.stored, chunk.plainBytes);
      places.push({ offset: end, headerBytes: header.length, storedBytes: bytes.length });
      buffers.push(header, bytes);
      end += header.length + bytes.length;
    }
    await this.#writeFully(buffers, end);
    segment.size = end;
    for (const [i, job] of jobs.entries()) {
      this.#deps.onStored(job.chunk.cid, places[i] as RecordPlace, segment);
      job.done.resolve();
    }
    await this.#commit();
  }

  /** LevelDB does not survive a full disk gracefully, and GC writes before it frees. */
  async #checkRoom(bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.#directory);
    if (bavail * bsize - bytes < this.#options.reserveBytes) throw new StoreFull(this.#segment.path);
  }

  /** What a failed write leaves behind is overwritten by the next one, or cut by recovery. */
  async #writeFully(buffers: Uint8Array[], end: number): Promise<void> {
    const { size } = this.#segment;
    const { bytesWritten } = await this.#file.writev(buffers, size);
    if (bytesWritten === end - size) return;
    const rest = Buffer.concat(buffers).subarray(bytesWritten);
    for (let at = 0; at < rest.length; ) {
      at += (await this.#file.write(rest, at, rest.length - at, size + bytesWritten + at)).bytesWritten;
    }
  }

  /** Starts a sync when it is due; waits for it only when too much is unsynced. */
  async #commit(): Promise<void> {
    const unsynced = this.#segment.size - this.#synced;
    if (unsynced >= 2 * this.#options.syncBytes) await this.#sync();
    else if (unsynced >= this.#options.syncBytes) this.#syncSoon(0);
    else this.#syncSoon(this.#options.syncMilliseconds);
  }

  #syncSoon(milliseconds: number): void {
    if (this.#timer && milliseconds > 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    // A failed sync is kept in #failure, and every later append and flush rejects with it.
    if (milliseconds === 0) void this.#sync().catch(() => {});
    else this.#timer = setTimeout(() => this.#syncSoon(0), milliseconds).unref();
  }

  #sync(): Promise<void> {
    const segment = this.#segment;
    const file = this.#file;
    const sync = async () => {
      const bytes = segment.size;
      if (segment !== this.#segment || bytes === this.#synced) return;
      await file.datasync();
      await this.#deps.onSynced(segment, bytes);
      this.#synced = bytes;
    };
    this.#syncing = this.#syncing.then(sync).catch((error) => {
      // After a failed fsync the kernel may have dropped the pages: nothing of this segment may be promised any more.
      this.#failure ??= new Error(`cannot sync segment ${segment.path}; restart the agent`, { cause: error });
      throw this.#failure;
    });
    return this.#syncing;
  }

  async #rotate(): Promise<void> {
    await this.#sync();
    const next = await Segment.create(this.#directory, this.#segment.id + 1);
    const file = await open(next.path, 'r+');
    await this.#file.close();
    this.#file = file;
    this.#segment = next;
    this.#synced = next.size;
    this.#deps.onSegment(next);
  }
}

function asStoreFull(error: unknown, path: string): unknown {
  const { code } = error as { code?: string };
  return code === 'ENOSPC' || code === 'EDQUOT' ? new StoreFull(path, { cause: error }) : error;
}
