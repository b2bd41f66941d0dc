import { type FileHandle, open, rm, statfs } from 'node:fs/promises';
import type { CID } from 'multiformats/cid';
import type { Encoded } from '../content/chunk-source.ts';
import { encodeHeader } from './pack-record.ts';
import { type RecordPlace, SEGMENT_HEADER_BYTES, Segment } from './segment.ts';

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

/** Records that are written together, and fail together. */
interface Batch {
  readonly chunks: StoredChunk[];
  /** Payload bytes. */
  bytes: number;
  readonly done: PromiseWithResolvers<void>;
}

/** A segment that is open for writing. */
interface OpenSegment {
  readonly segment: Segment;
  readonly file: FileHandle;
  /** Bytes of it that are on disk. */
  synced: number;
}

/** One `writev` carries at most this much; two buffers a record stay under IOV_MAX (1024). */
const BATCH_BYTES = 4 * 1024 * 1024;
const BATCH_RECORDS = 256;
/** The free space of the disk is looked up again after so many bytes, and so many milliseconds. */
const ROOM_BYTES = 16 * 1024 * 1024;
const ROOM_MILLISECONDS = 500;

/**
 * The one writer of the active segment. Appends are written in order and in batches; the file is synced by bytes and
 * by time, while later batches are being written. An append waits when two groups' worth of bytes are unsynced, which
 * bounds what a power loss can take and what the page cache must hold.
 */
export class PackWriter {
  readonly #directory: string;
  readonly #deps: PackWriterDeps;
  readonly #options: PackWriterOptions;
  readonly #queue: Batch[] = [];
  readonly #rotations: PromiseWithResolvers<void>[] = [];
  #last: Promise<void> = Promise.resolve();
  /** What may still be written before the free space is looked up again, and when it was last looked up. */
  #room = 0;
  #roomAt = 0;
  #active: OpenSegment;
  /** Full, and not yet synced. */
  readonly #full: OpenSegment[] = [];
  /** Made before it is needed: that takes two syncs. */
  #next: Promise<OpenSegment> | undefined;
  #unsynced = 0;
  /** Bytes that no sync has begun with. */
  #fresh = 0;
  #running: Promise<void> | undefined;
  /** The sync under way, and the one that comes after it. */
  #syncing: Promise<void> = Promise.resolve();
  #queuedSync: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failure: Error | undefined;

  private constructor(directory: string, active: OpenSegment, deps: PackWriterDeps, options: PackWriterOptions) {
    this.#directory = directory;
    this.#active = active;
    this.#deps = deps;
    this.#options = options;
  }

  /** Goes on in `last` (which is synced), or begins the first segment. */
  static async open(directory: string, last: Segment | undefined, deps: PackWriterDeps, options: PackWriterOptions) {
    const active = await openSegment(last ?? (await Segment.create(directory, 1)));
    if (!last) deps.onSegment(active.segment);
    return new PackWriter(directory, active, deps, options);
  }

  get segment(): Segment {
    return this.#active.segment;
  }

  /** Resolves when the record can be read back (see `flush` for when it is durable). Its bytes must not change until. */
  append(chunk: StoredChunk): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    const { length } = chunk.stored.bytes;
    let batch = this.#queue.at(-1);
    const most = Math.min(BATCH_BYTES, this.#options.segmentBytes);
    if (!batch || batch.bytes + length > most || batch.chunks.length >= BATCH_RECORDS) {
      batch = { chunks: [], bytes: 0, done: Promise.withResolvers<void>() };
      this.#queue.push(batch);
      this.#last = batch.done.promise;
    }
    batch.chunks.push(chunk);
    batch.bytes += length;
    this.#running ??= this.#run();
    return batch.done.promise;
  }

  /** Resolves when everything that was appended until now is on disk and in the index. */
  async flush(): Promise<void> {
    // Batches end in order. That the last one failed is its own callers' affair.
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
      const unused = await this.#next?.catch(() => undefined);
      for (const { file } of [...this.#full, this.#active, ...(unused ? [unused] : [])]) await file.close();
      if (unused) await rm(unused.segment.path, { force: true });
    }
  }

  async #run(): Promise<void> {
    // Appends made in this turn of the event loop travel together.
    await Promise.resolve();
    while (this.#queue.length > 0 || this.#rotations.length > 0) {
      const rotation = this.#rotations.shift();
      if (rotation) await this.#rotate().then(rotation.resolve, rotation.reject);
      else await this.#writeNext();
    }
    this.#running = undefined;
  }

  async #writeNext(): Promise<void> {
    const batch = this.#queue.shift() as Batch;
    try {
      if (this.#failure) throw this.#failure;
      await this.#write(batch);
      batch.done.resolve();
    } catch (error) {
      batch.done.reject(asStoreFull(error, this.segment.path));
      return;
    }
    // Its failure is kept, and rejects what comes later.
    await this.#commit().catch(() => {});
  }

  async #write({ chunks, bytes }: Batch): Promise<void> {
    await this.#checkRoom(bytes);
    const { segmentBytes } = this.#options;
    const { size } = this.segment;
    if (size > SEGMENT_HEADER_BYTES && size + bytes > segmentBytes) await this.#rotate();
    const { segment } = this;
    const buffers: Uint8Array[] = [];
    const places: Omit<RecordPlace, 'cid'>[] = [];
    let end = segment.size;
    for (const { cid, stored, plainBytes } of chunks) {
      const header = encodeHeader(cid, stored, plainBytes);
      const storedBytes = stored.bytes.length;
      places.push({ offset: end, headerBytes: header.length, storedBytes });
      buffers.push(header, stored.bytes);
      end += header.length + storedBytes;
    }
    await this.#writeFully(buffers, end);
    this.#unsynced += end - segment.size;
    this.#fresh += end - segment.size;
    segment.size = end;
    if (end > segmentBytes / 2) this.#prepare();
    for (const [i, { cid }] of chunks.entries()) this.#deps.onStored(cid, places[i] as RecordPlace, segment);
  }

  /** LevelDB does not survive a full disk gracefully, and GC writes before it frees. */
  async #checkRoom(bytes: number): Promise<void> {
    const now = performance.now();
    if (bytes > this.#room || now - this.#roomAt > ROOM_MILLISECONDS) {
      const { bavail, bsize } = await statfs(this.#directory);
      this.#room = Math.min(ROOM_BYTES, bavail * bsize - this.#options.reserveBytes);
      this.#roomAt = now;
      if (bytes > this.#room) throw new StoreFull(this.segment.path);
    }
    this.#room -= bytes;
  }

  /** What a failed write leaves behind is overwritten by the next one, or cut by recovery. */
  async #writeFully(buffers: Uint8Array[], end: number): Promise<void> {
    const { segment, file } = this.#active;
    const { size } = segment;
    const { bytesWritten } = await file.writev(buffers, size);
    if (bytesWritten === end - size) return;
    const rest = Buffer.concat(buffers).subarray(bytesWritten);
    for (let at = 0; at < rest.length; ) {
      at += (await file.write(rest, at, rest.length - at, size + bytesWritten + at)).bytesWritten;
    }
  }

  /** Starts a sync when it is due; waits for it only when too much is unsynced. */
  async #commit(): Promise<void> {
    const { syncBytes, syncMilliseconds } = this.#options;
    this.#syncSoon(this.#fresh >= syncBytes ? 0 : syncMilliseconds);
    while (this.#unsynced >= 2 * syncBytes) await (this.#queuedSync ? this.#syncing : this.#sync());
  }

  #syncSoon(milliseconds: number): void {
    if (this.#timer && milliseconds > 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    // A failed sync is kept in #failure, and every later append and flush rejects with it.
    if (milliseconds === 0) void this.#sync().catch(() => {});
    else this.#timer = setTimeout(() => this.#syncSoon(0), milliseconds).unref();
  }

  /** Resolves when everything that is written now is on disk and in the index. */
  #sync(): Promise<void> {
    if (this.#queuedSync) return this.#queuedSync;
    const sync = async () => {
      this.#queuedSync = undefined;
      this.#syncing = running;
      this.#fresh = 0;
      if (this.#failure) throw this.#failure;
      for (const open of [...this.#full, this.#active]) await this.#syncOne(open);
    };
    const running: Promise<void> = this.#syncing.then(sync, sync);
    this.#queuedSync = running;
    running.catch(() => {}); // Kept in #failure.
    return running;
  }

  async #syncOne(open: OpenSegment): Promise<void> {
    try {
      await this.#syncWritten(open);
      if (this.#full[0] !== open) return;
      // It may have filled up meanwhile; now it grows no more.
      await this.#syncWritten(open);
      this.#full.shift();
      await open.file.close();
    } catch (error) {
      // After a failed fsync the kernel may have dropped the pages: nothing of this segment may be promised any more.
      this.#failure ??= new Error(`cannot sync segment ${open.segment.path}; restart the agent`, { cause: error });
      throw this.#failure;
    }
  }

  /** Syncs what is written of the segment now. */
  async #syncWritten(open: OpenSegment): Promise<void> {
    const { segment, file } = open;
    const bytes = segment.size;
    if (bytes === open.synced) return;
    await file.datasync();
    await this.#deps.onSynced(segment, bytes);
    this.#unsynced -= bytes - open.synced;
    open.synced = bytes;
  }

  #prepare(): void {
    this.#next ??= Segment.create(this.#directory, this.segment.id + 1).then(openSegment);
    this.#next.catch(() => {}); // Seen when it is needed.
  }

  /** The full segment is synced while the next one is written. */
  async #rotate(): Promise<void> {
    this.#prepare();
    const next = this.#next as Promise<OpenSegment>;
    this.#next = undefined;
    const active = await next;
    this.#full.push(this.#active);
    this.#active = active;
    this.#deps.onSegment(active.segment);
    this.#syncSoon(0);
  }
}

async function openSegment(segment: Segment): Promise<OpenSegment> {
  return { segment, file: await open(segment.path, 'r+'), synced: segment.size };
}

function asStoreFull(error: unknown, path: string): unknown {
  const { code } = error as { code?: string };
  return code === 'ENOSPC' || code === 'EDQUOT' ? new StoreFull(path, { cause: error }) : error;
}
