import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import type { CID } from 'multiformats/cid';
import { BufferPool } from '../content/buffer-pool.ts';
import { chunkKey, MAX_CHUNK_BYTES, SHA2_256 } from '../content/chunk.ts';
import type { ChunkSet } from '../content/chunk-set.ts';
import type { ChunkStore, Encoded, EncodedOptions, GetOptions } from '../content/chunk-source.ts';
import { decompressed } from '../content/compression.ts';
import type { Log } from '../observe/log.ts';
import { collectGarbage, type GcReport } from './pack-gc.ts';
import { type Entry, PackIndex } from './pack-index.ts';
import {
  type Damage,
  PACK_STORE_DEFAULTS,
  type PackStoreDefaults,
  type PackStoreOptions,
  type StoreDeps,
  type StoreStats,
  type VerifyReport,
} from './pack-options.ts';
import { decodeHeader } from './pack-record.ts';
import { recoverSegments } from './pack-recovery.ts';
import { PackWriter, type StoredChunk } from './pack-writer.ts';
import { chunkIn, encodedIn } from './payload.ts';
import { Pins } from './pins.ts';
import type { RecordPlace, Segment } from './segment.ts';
import { SegmentReader } from './segment-reader.ts';

/** When chunks were last used is written down this often, and in the end. */
const NOTE_MILLISECONDS = 3600_000;

/**
 * Chunks on disk: append-only segments (`segments/`), an index that can be rebuilt from them (`index.v1/`), and pins
 * (`pins.json`).
 *
 * What survives: `put` resolves when the chunk is in the segment file, so it survives the death of the process. It
 * survives a power loss when the segment is synced: after `flush()`, or `syncBytes` or `syncMilliseconds` later. What
 * the index says of a segment counts up to the checkpoint that is written after the sync, so whatever is lost is found
 * by hash on the next start. `get` checks every byte it returns; `encoded` leaves that to the one who is sent it.
 */
export class PackStore implements ChunkStore, AsyncDisposable {
  readonly directory: string;
  readonly pins: Pins;
  readonly #log: Log;
  readonly #options: PackStoreOptions & PackStoreDefaults;
  readonly #index: PackIndex;
  readonly #segments: Map<number, Segment>;
  readonly #reader: SegmentReader;
  readonly #seconds: () => number;
  readonly #started: number;
  readonly #buffers = new BufferPool();
  readonly #putting = new Map<string, Promise<void>>();
  readonly #held = new Set<{ readonly set: ChunkSet }>();
  readonly #onDamage = new Set<(damage: Damage) => void>();
  /** Stored, and not yet in LevelDB. */
  #unindexed: string[] = [];
  #writer!: PackWriter;
  #noting: NodeJS.Timeout | undefined;
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
    // A process that is killed forgets at most this much of what was used when.
    const note = () =>
      this.#index.persistUses(this.#now()).catch((error) => this.#log.warn('uses not noted', { error }));
    this.#noting = setInterval(note, NOTE_MILLISECONDS).unref();
  }

  has(cid: CID): boolean {
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
    const entry = this.#find(key) ?? (await this.#afterPut(key));
    return entry && (await this.#chunk(cid, key, entry, signal));
  }

  /**
   * The chunk as it is kept when that is a form that the caller takes, else plain. Its checksum was right, which tells
   * damage on disk; a damaged record is treated as by `get`.
   */
  async encoded(cid: CID, { signal, zstd }: EncodedOptions): Promise<Encoded | undefined> {
    signal.throwIfAborted();
    this.#closing.signal.throwIfAborted();
    const key = chunkKey(cid);
    const entry = this.#find(key) ?? (await this.#afterPut(key));
    const record = entry && (await this.#record(cid, key, entry, signal));
    if (!record) return undefined;
    if (zstd || record.stored.encoding === 'plain') return record.stored;
    const bytes = await decompressed(record.stored.bytes, record.plainBytes);
    record.stored.release?.();
    return bytes && { encoding: 'plain', bytes };
  }

  #find(key: string): Entry | undefined {
    const entry = this.#index.entries.get(key);
    if (entry) entry.used = this.#now();
    return entry;
  }

  /** The chunk's place when it is being put just now. */
  async #afterPut(key: string): Promise<Entry | undefined> {
    await this.#putting.get(key)?.catch(() => {});
    return this.#find(key);
  }

  /** The chunk, checked by its hash, in memory that is the caller's. */
  async #chunk(cid: CID, key: string, entry: Entry, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const record = await this.#read(entry, Buffer.allocUnsafeSlow(entry.headerBytes + entry.size), signal);
    const header = record && decodeHeader(record);
    const bytes = header && (await chunkIn(cid, header, record.subarray(header.headerBytes)));
    if (record && !bytes) await this.#drop(key, entry);
    return bytes;
  }

  /** The record, checked by its checksum, in memory that comes back by `release`. */
  async #record(cid: CID, key: string, entry: Entry, signal: AbortSignal): Promise<StoredChunk | undefined> {
    const buffer = this.#buffers.take(entry.headerBytes + entry.size);
    const record = await this.#read(entry, Buffer.from(buffer.buffer, 0, buffer.length), signal);
    const header = record && decodeHeader(record);
    const found = header && (await encodedIn(cid, header, record.subarray(header.headerBytes)));
    if (record && !found) await this.#drop(key, entry);
    const release = () => this.#buffers.give(buffer);
    return found && { cid, stored: { ...found, release }, plainBytes: header.plainBytes };
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
    let put = this.#putting.get(key);
    if (!put) {
      const isLarger = encoded?.encoding === 'zstd' && encoded.bytes.length >= bytes.length;
      const kept: Encoded = encoded && !isLarger ? encoded : { encoding: 'plain', bytes };
      // Now, when its bytes have just been hashed and the core's cache has them: a third of the cost of later.
      const stored = { ...kept, crc32: kept.crc32 ?? crc32(kept.bytes) };
      // Records of one batch share a promise; `#stored` forgets it.
      put = this.#writer.append({ cid, stored, plainBytes: bytes.length });
      this.#putting.set(key, put);
    }
    try {
      await put;
    } catch (error) {
      if (this.#putting.get(key) === put) this.#putting.delete(key);
      throw error;
    }
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
        if (this.#index.entries.get(key) === entry)
          await this.#chunk(this.#index.cid(key, entry), key, entry, options.signal);
        chunks++;
        bytes += entry.size;
        options.onProgress?.({ bytes, total: Math.max(bytes, this.#index.bytes) });
      }
    } finally {
      this.#onDamage.delete(note);
    }
    return { chunks, bytes, damaged };
  }

  /** A record, header included; empty when the disk cannot read it, undefined when it has gone meanwhile. */
  async #read(entry: Entry, into: Buffer, signal: AbortSignal): Promise<Buffer | undefined> {
    const segment = this.#segments.get(entry.segment);
    if (!segment) return undefined;
    const { offset } = entry;
    try {
      return into.subarray(0, await this.#reader.read(segment, offset, into, signal));
    } catch (error) {
      const { code } = error as { code?: string };
      if (code !== 'EIO' && code !== 'ENOENT') throw error;
      this.#log.error('segment cannot be read', { segment: segment.path, offset, error });
      return into.subarray(0, 0);
    }
  }

  async #drop(key: string, entry: Entry): Promise<void> {
    const segment = this.#segments.get(entry.segment);
    if (!segment || this.#index.entries.get(key) !== entry) return;
    this.#index.forget(key, segment);
    const damage = { cid: this.#index.cid(key, entry), file: segment.path, offset: entry.offset };
    this.#log.error('chunk is damaged on disk and was dropped', {
      cid: damage.cid.toString(),
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
    this.#putting.delete(key);
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
        read: (cid, entry, readSignal) => this.#chunk(cid, chunkKey(cid), entry, readSignal),
        record: (cid, entry, readSignal) => this.#record(cid, chunkKey(cid), entry, readSignal),
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
      await this.#index.persistUses(this.#now());
    } finally {
      clearInterval(this.#noting);
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
