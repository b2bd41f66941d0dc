import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { CID } from 'multiformats/cid';
import { chunkKey, MAX_CHUNK_BYTES, SHA2_256 } from '../content/chunk.ts';
import type { ChunkSet } from '../content/chunk-set.ts';
import type { ChunkStore, Encoded, EncodedOptions, GetOptions } from '../content/chunk-source.ts';
import { decompressed } from '../content/compression.ts';
import type { Log } from '../observe/log.ts';
import { collectGarbage, type GcReport, type Watermarks } from './pack-gc.ts';
import { type Entry, PackIndex } from './pack-index.ts';
import { decodeHeader, type RecordHeader } from './pack-record.ts';
import { recoverSegments } from './pack-recovery.ts';
import { PackWriter, type StoredChunk } from './pack-writer.ts';
import { chunkIn, encodedIn } from './payload.ts';
import { Pins } from './pins.ts';
import type { RecordPlace, Segment } from './segment.ts';
import { SegmentReader } from './segment-reader.ts';

/** A record that does not match its hash any more. */
export interface Damage {
  readonly cid: CID;
  /** Path of the segment file. */
  readonly file: string;
  /** Offset of the record in it, in bytes. */
  readonly offset: number;
}

interface StoreDeps {
  readonly log: Log;
  /** A clock that only goes forward, in seconds. @default performance.now() / 1000 */
  readonly seconds?: () => number;
}

export interface PackStoreOptions {
  /** Size at which a segment is closed, in bytes; also what GC needs as spare space. @default 128 MiB */
  readonly segmentBytes?: number;
  /** Sync after this many bytes… @default 32 MiB */
  readonly syncBytes?: number;
  /** …or this many milliseconds, whichever comes first. @default 500 */
  readonly syncMilliseconds?: number;
  /** Space that is left free on the disk: for the index, and for GC to work in. @default 32 MiB */
  readonly reserveBytes?: number;
  /** When the segments exceed `highBytes`, unpinned chunks are evicted until `lowBytes` are left. @default never */
  readonly watermarks?: Watermarks;
  /** A chunk that was put or read within this many seconds is in use, and is not evicted. @default 600 */
  readonly graceSeconds?: number;
  /** Called for each damaged record that is found, after it was dropped. */
  readonly onDamage?: (damage: Damage) => void;
  /** Called when chunks were evicted, before anybody can ask for them again. */
  readonly onEvict?: (cids: readonly CID[]) => void;
  /** Called after each sync, before the index relies on it: the segment is on disk up to `bytes`. */
  readonly onSync?: (synced: { readonly file: string; readonly bytes: number }) => void;
}

export interface StoreStats {
  readonly chunks: number;
  /** Payload bytes of the chunks. */
  readonly bytes: number;
  /** Bytes of the segment files, dead records included. */
  readonly diskBytes: number;
  readonly segments: number;
}

export interface VerifyReport {
  readonly chunks: number;
  readonly bytes: number;
  /** What was found wrong, and has been dropped: the next read fetches it again. */
  readonly damaged: readonly Damage[];
}

const PACK_STORE_DEFAULTS = {
  segmentBytes: 128 * 1024 * 1024,
  syncBytes: 32 * 1024 * 1024,
  syncMilliseconds: 500,
  reserveBytes: 32 * 1024 * 1024,
  graceSeconds: 600,
} as const;
type Defaults = Readonly<Record<keyof typeof PACK_STORE_DEFAULTS, number>>;

/**
 * Chunks on disk: append-only segments (`segments/`), an index that can be rebuilt from them (`index.v1/`), and pins
 * (`pins.json`).
 *
 * What survives: `put` resolves when the chunk is in the segment file, so it survives the death of the process. It
 * survives a power loss when the segment is synced: after `flush()`, or `syncBytes` or `syncMilliseconds` later. The
 * index row is written after the sync of what it points to, never before, so whatever is lost is lost from the end,
 * and recovery finds it by hash. `get` checks every byte it returns.
 */
export class PackStore implements ChunkStore, AsyncDisposable {
  readonly directory: string;
  readonly pins: Pins;
  readonly #log: Log;
  readonly #options: PackStoreOptions & Defaults;
  readonly #index: PackIndex;
  readonly #segments: Map<number, Segment>;
  readonly #reader: SegmentReader;
  readonly #seconds: () => number;
  readonly #started: number;
  readonly #putting = new Map<string, Promise<void>>();
  readonly #held = new Set<{ readonly set: ChunkSet }>();
  readonly #onDamage = new Set<(damage: Damage) => void>();
  /** Stored, and not yet in LevelDB. */
  #unindexed: string[] = [];
  #writer!: PackWriter;
  #collecting: Promise<GcReport> | undefined;
  /** Size at which the next automatic GC starts; moves up when everything left is pinned. */
  #nextGc: number;
  readonly #closing = new AbortController();

  private constructor(
    directory: string,
    deps: StoreDeps & { index: PackIndex; segments: Map<number, Segment>; pins: Pins },
    options: PackStoreOptions,
  ) {
    this.directory = directory;
    this.pins = deps.pins;
    this.#log = deps.log;
    this.#index = deps.index;
    this.#segments = deps.segments;
    this.#seconds = deps.seconds ?? (() => performance.now() / 1000);
    this.#started = this.#seconds();
    this.#reader = new SegmentReader({ log: deps.log });
    this.#options = { ...PACK_STORE_DEFAULTS, ...options };
    if (options.onDamage) this.#onDamage.add(options.onDamage);
    this.#nextGc = options.watermarks?.highBytes ?? Number.POSITIVE_INFINITY;
  }

  /**
   * Opens the store in `directory`, which is made when missing, and recovers it from whatever ended the last run.
   * Rejects with `StoreLocked` when another process has it open, `InvalidPins` when its pins cannot be read.
   */
  static async open(directory: string, deps: StoreDeps, options: PackStoreOptions = {}): Promise<PackStore> {
    const { watermarks } = options;
    if (watermarks && watermarks.lowBytes > watermarks.highBytes) {
      throw new RangeError(
        `GC: the low watermark ${watermarks.lowBytes} is above the high one ${watermarks.highBytes}`,
      );
    }
    const log = deps.log.with({ room: 'store' });
    const at = join(directory, 'segments');
    await mkdir(at, { recursive: true, mode: 0o700 });
    const index = await PackIndex.open(join(directory, 'index.v1'), (error) => {
      log.warn('index cannot be read and is rebuilt from the segments', { directory, error });
    });
    try {
      const pins = await Pins.open(join(directory, 'pins.json'));
      const segments = await recoverSegments(at, index, log);
      const store = new PackStore(directory, { ...deps, log, index, segments, pins }, options);
      await store.#startWriter(at);
      return store;
    } catch (error) {
      await index.close();
      throw error;
    }
  }

  async #startWriter(directory: string): Promise<void> {
    const last = this.#segments.get(Math.max(...this.#segments.keys()));
    const deps = {
      onSegment: (segment: Segment) => void this.#segments.set(segment.id, segment),
      onStored: (cid: CID, place: Omit<RecordPlace, 'cid'>, segment: Segment) => this.#stored(cid, place, segment),
      onSynced: (segment: Segment, bytes: number) => this.#synced(segment, bytes),
    };
    this.#writer = await PackWriter.open(directory, last, deps, this.#options);
  }

  async has(cid: CID): Promise<boolean> {
    return this.#index.get(cid) !== undefined;
  }

  /**
   * The chunk's bytes, checked. A record that fails the check is reported, dropped, and answered like a missing one,
   * so that a ladder fetches the chunk again.
   */
  async get(cid: CID, { signal }: GetOptions): Promise<Uint8Array | undefined> {
    signal.throwIfAborted();
    this.#closing.signal.throwIfAborted();
    const key = chunkKey(cid);
    await this.#putting.get(key)?.catch(() => {});
    const entry = this.#index.entries.get(key);
    if (!entry) return undefined;
    entry.used = this.#now();
    return await this.#chunk(key, entry, signal);
  }

  /**
   * The chunk as it is kept when that is a form that the caller takes, else plain. Its checksum was right, which tells
   * damage on disk; a damaged record is treated as by `get`.
   */
  async encoded(cid: CID, { signal, zstd }: EncodedOptions): Promise<Encoded | undefined> {
    signal.throwIfAborted();
    this.#closing.signal.throwIfAborted();
    const key = chunkKey(cid);
    await this.#putting.get(key)?.catch(() => {});
    const entry = this.#index.entries.get(key);
    if (!entry) return undefined;
    entry.used = this.#now();
    const record = await this.#record(key, entry, signal);
    if (!record) return undefined;
    if (zstd || record.stored.encoding === 'plain') return record.stored;
    const bytes = await decompressed(record.stored.bytes, record.plainBytes);
    return bytes && { encoding: 'plain', bytes };
  }

  /** The chunk, checked by its hash. */
  async #chunk(key: string, entry: Entry, signal: AbortSignal): Promise<Uint8Array | undefined> {
    return await this.#load(key, entry, signal, chunkIn);
  }

  /** The record, checked by its checksum. */
  async #record(key: string, entry: Entry, signal: AbortSignal): Promise<StoredChunk | undefined> {
    return await this.#load(key, entry, signal, async (header, payload) => {
      const stored = await encodedIn(header, payload);
      return stored && { cid: header.cid, stored, plainBytes: header.plainBytes };
    });
  }

  /** Reads a record, header included, and has it checked; drops one that is not right. */
  async #load<T>(
    key: string,
    entry: Entry,
    signal: AbortSignal | undefined,
    check: (header: RecordHeader, payload: Buffer) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const segment = this.#segments.get(entry.segment);
    if (!segment) return undefined;
    const record = await this.#read(segment, entry.offset, entry.headerBytes + entry.size, signal);
    const header = decodeHeader(record);
    const same = header && chunkKey(header.cid) === key && header.headerBytes === entry.headerBytes;
    const found = same && (await check(header, record.subarray(header.headerBytes)));
    if (found) return found;
    await this.#drop(this.#index.cid(key, entry), entry, segment);
    return undefined;
  }

  /**
   * Keeps `bytes`, which the caller has verified, and must not change until this resolves. Resolves when they can be
   * read back. Callers bound memory by waiting: nothing is copied, and what waits is what they hold.
   */
  async put(cid: CID, bytes: Uint8Array, encoded?: Encoded): Promise<void> {
    if (cid.multihash.code !== SHA2_256)
      throw new TypeError(`store cannot check hash 0x${cid.multihash.code.toString(16)} of ${cid}`);
    if (bytes.length > MAX_CHUNK_BYTES)
      throw new RangeError(`chunk ${cid} has ${bytes.length} bytes, over ${MAX_CHUNK_BYTES}`);
    const key = chunkKey(cid);
    const entry = this.#index.entries.get(key);
    if (entry) {
      entry.used = this.#now();
      return;
    }
    const running = this.#putting.get(key);
    if (running) return await running;
    const isLarger = encoded?.encoding === 'zstd' && encoded.bytes.length >= bytes.length;
    const stored: Encoded = encoded && !isLarger ? encoded : { encoding: 'plain', bytes };
    const put = this.#writer.append({ cid, stored, plainBytes: bytes.length }).finally(() => this.#putting.delete(key));
    this.#putting.set(key, put);
    await put;
  }

  /** Resolves when everything that was put is safe from a power loss. */
  async flush(): Promise<void> {
    await this.#writer.flush();
  }

  /** Nothing of `set` is evicted until the returned handle is disposed of: for downloads and readers under way. */
  hold(set: ChunkSet): Disposable {
    const held = { set };
    this.#held.add(held);
    return { [Symbol.dispose]: () => void this.#held.delete(held) };
  }

  stats(): StoreStats {
    let diskBytes = 0;
    for (const segment of this.#segments.values()) diskBytes += segment.size;
    return { chunks: this.#index.entries.size, bytes: this.#index.bytes, diskBytes, segments: this.#segments.size };
  }

  /** Reads and hashes everything, oldest segment first. Damage is reported, dropped, and listed in the result. */
  async verify(options: {
    readonly signal: AbortSignal;
    readonly onProgress?: (progress: { readonly bytes: number; readonly total: number }) => void;
  }): Promise<VerifyReport> {
    const damaged: Damage[] = [];
    const note = (damage: Damage) => void damaged.push(damage);
    let chunks = 0;
    let bytes = 0;
    this.#onDamage.add(note);
    try {
      for (const [key, entry] of this.#inLogOrder()) {
        options.signal.throwIfAborted();
        // Not when it moved or went meanwhile.
        if (this.#index.entries.get(key) === entry) await this.#chunk(key, entry, options.signal);
        chunks++;
        bytes += entry.size;
        options.onProgress?.({ bytes, total: Math.max(bytes, this.#index.bytes) });
      }
    } finally {
      this.#onDamage.delete(note);
    }
    return { chunks, bytes, damaged };
  }

  async #read(segment: Segment, offset: number, length: number, signal?: AbortSignal): Promise<Buffer> {
    try {
      return await this.#reader.read(segment, offset, length, signal);
    } catch (error) {
      const { code } = error as { code?: string };
      if (code !== 'EIO' && code !== 'ENOENT') throw error;
      this.#log.error('segment cannot be read', { segment: segment.path, offset, error });
      return Buffer.alloc(0);
    }
  }

  async #drop(cid: CID, entry: Entry, segment: Segment): Promise<void> {
    const key = chunkKey(cid);
    if (this.#index.entries.get(key) !== entry) return;
    this.#index.forget(key, segment);
    const damage = { cid, file: segment.path, offset: entry.offset };
    this.#log.error('chunk is damaged on disk and was dropped', {
      cid: cid.toString(),
      segment: segment.path,
      offset: entry.offset,
    });
    for (const tell of this.#onDamage) tell(damage);
    await this.#index.persist([key]);
  }

  #stored(cid: CID, place: Omit<RecordPlace, 'cid'>, segment: Segment): void {
    const key = chunkKey(cid);
    const old = this.#index.entries.get(key);
    // A compaction moves a record: the old place is dead from now on.
    this.#index.forget(key, old && this.#segments.get(old.segment));
    this.#index.add(cid, place, segment, old?.used ?? this.#now());
    this.#unindexed.push(key);
  }

  async #synced(segment: Segment, bytes: number): Promise<void> {
    const keys = this.#unindexed;
    this.#unindexed = [];
    this.#options.onSync?.({ file: segment.path, bytes });
    await this.#index.persist(keys, { segment, bytes });
    if (this.stats().diskBytes > this.#nextGc) this.#collectSoon();
  }

  /**
   * Evicts chunks that are neither pinned nor in use, least recently used first, until the store fits into `lowBytes`
   * (by default the low watermark, else nothing is evicted), and packs what is left. One run at a time; a second call
   * joins the first.
   */
  async gc({ signal, lowBytes }: { readonly signal: AbortSignal; readonly lowBytes?: number }): Promise<GcReport> {
    signal.throwIfAborted();
    this.#collecting ??= this.#collect(
      lowBytes ?? this.#options.watermarks?.lowBytes ?? Number.POSITIVE_INFINITY,
      AbortSignal.any([signal, this.#closing.signal]),
    ).finally(() => {
      this.#collecting = undefined;
    });
    return await this.#collecting;
  }

  async #collect(lowBytes: number, signal: AbortSignal): Promise<GcReport> {
    const report = await collectGarbage(
      {
        log: this.#log,
        index: this.#index,
        segments: this.#segments,
        writer: this.#writer,
        reader: this.#reader,
        pins: () => this.pins.list(),
        held: () => [...this.#held].map(({ set }) => set),
        onEvict: (cids) => this.#options.onEvict?.(cids),
        usedSince: this.#now() - this.#options.graceSeconds,
        read: (key, entry, readSignal) => this.#chunk(key, entry, readSignal),
        record: (key, entry, readSignal) => this.#record(key, entry, readSignal),
      },
      lowBytes,
      signal,
    );
    const { watermarks, segmentBytes } = this.#options;
    // When all that is left is pinned, the next run waits until there is something new to look at.
    if (watermarks) this.#nextGc = Math.max(watermarks.highBytes, this.stats().diskBytes + segmentBytes / 4);
    return report;
  }

  #collectSoon(): void {
    if (this.#collecting || this.#closing.signal.aborted) return;
    this.gc({ signal: this.#closing.signal }).catch((error) => {
      if (!this.#closing.signal.aborted) this.#log.error('garbage collection failed', { error });
    });
  }

  /** Stops GC, writes and syncs what was put, and lets the directory go. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new Error(`store ${this.directory} is closing`));
    await this.#collecting?.catch(() => {});
    try {
      await this.#writer.close();
    } finally {
      await this.#reader.close();
      await this.#index.close();
    }
  }

  #now(): number {
    return Math.floor(this.#seconds() - this.#started) + 1;
  }

  #inLogOrder(): [string, Entry][] {
    return [...this.#index.entries].sort(([, a], [, b]) => a.segment - b.segment || a.offset - b.offset);
  }
}
