import { rm } from 'node:fs/promises';
import { Level } from 'level';
import { type CID, CID as Cid } from 'multiformats/cid';
import { create as createDigest } from 'multiformats/hashes/digest';
import { chunkKey, SHA2_256 } from '../content/chunk.ts';
import { decodeLastUses, encodeLastUses, NEVER } from './last-uses.ts';
import type { RecordPlace, Segment } from './segment.ts';

/**
 * Where a chunk is. `used` is the second of the store's clock in which it was last put or read: 1 is the first one since
 * it was opened, those before are 0 and below.
 */
export interface Entry {
  readonly segment: number;
  readonly offset: number;
  readonly size: number;
  readonly codec: number;
  readonly headerBytes: number;
  used: number;
}

/** How far a segment is known to be on disk and in the index. */
interface Checkpoint {
  readonly identity: string;
  readonly bytes: number;
}

/** The directory is open in another process (or twice in this one). */
export class StoreLocked extends Error {
  readonly code = 'STORE_LOCKED';

  constructor(directory: string, options?: ErrorOptions) {
    super(`another agent uses this store: ${directory}; stop it, or give this one its own data directory`, options);
    this.name = 'StoreLocked';
  }
}

type Database = Level<Buffer, Buffer>;
type Operation = { type: 'put'; key: Buffer; value: Buffer } | { type: 'del'; key: Buffer };

const CHUNK = 'c'.charCodeAt(0);
const SEGMENT = 's'.charCodeAt(0);
const USES = 'u'.charCodeAt(0);
const VALUE_BYTES = 22;
const LOAD_BATCH = 2000;
const WRITE_BATCH = 5000;

/**
 * Chunk → place. All of it is in memory (about 150 bytes a chunk: 1.2 MB per GiB of 128 KiB chunks), so `has` and the
 * way to a payload cost no I/O; LevelDB keeps it for the next start. LevelDB may lag behind or be lost: what it says
 * of a segment counts up to the checkpoint that was written with it, and the rest is read from the segment itself.
 */
export class PackIndex {
  readonly entries = new Map<string, Entry>();
  readonly checkpoints = new Map<number, Checkpoint>();
  /** Payload bytes of all entries. */
  bytes = 0;
  readonly #database: Database;

  private constructor(database: Database) {
    this.#database = database;
  }

  /** Opens the index; one that cannot be read is thrown away (`onRebuild` says why) and starts empty. */
  static async open(directory: string, onRebuild: (cause: unknown) => void): Promise<PackIndex> {
    try {
      return await PackIndex.#load(directory);
    } catch (error) {
      if (isLocked(error)) throw new StoreLocked(directory, { cause: error });
      onRebuild(error);
      await rm(directory, { recursive: true, force: true });
      return await PackIndex.#load(directory);
    }
  }

  static async #load(directory: string): Promise<PackIndex> {
    const database: Database = new Level(directory, { keyEncoding: 'buffer', valueEncoding: 'buffer' });
    await database.open();
    const index = new PackIndex(database);
    try {
      await index.#read();
    } catch (error) {
      await database.close();
      throw error;
    }
    return index;
  }

  async #read(): Promise<void> {
    const bySegment = new Map<number, Entry[]>();
    await using iterator = this.#database.iterator();
    for (let rows = await iterator.nextv(LOAD_BATCH); rows.length > 0; rows = await iterator.nextv(LOAD_BATCH)) {
      for (const [key, value] of rows) {
        // In this order: a segment's chunks, its checkpoint, and when they were used.
        if (key[0] === CHUNK) {
          const entry = decodeEntry(value);
          this.#set(key.toString('latin1', 1), entry);
          const others = bySegment.get(entry.segment);
          if (others) others.push(entry);
          else bySegment.set(entry.segment, [entry]);
        } else if (key[0] === SEGMENT) this.checkpoints.set(key.readUInt32BE(1), decodeCheckpoint(value));
        else if (key[0] === USES) {
          const id = key.readUInt32BE(1);
          decodeLastUses(value, this.checkpoints.get(id)?.identity ?? '', bySegment.get(id) ?? []);
        } else throw new Error(`index row of unknown kind ${key[0]}`);
      }
    }
  }

  get(cid: CID): Entry | undefined {
    return this.entries.get(chunkKey(cid));
  }

  /** The CID that `key` and its entry stand for. */
  cid(key: string, entry: Entry): CID {
    return Cid.createV1(entry.codec, createDigest(SHA2_256, Uint8Array.from(Buffer.from(key, 'latin1'))));
  }

  /** Remembers, in memory, where the chunk is; `persist` makes it last. */
  add(cid: CID, place: Omit<RecordPlace, 'cid'>, segment: Segment, used: number): void {
    const { offset, storedBytes, headerBytes } = place;
    const entry = {
      segment: segment.id,
      offset,
      size: storedBytes,
      codec: cid.code,
      headerBytes,
      used,
    };
    this.#set(chunkKey(cid), entry);
    segment.live += entry.size + entry.headerBytes;
  }

  /** Forgets, in memory; `persist` with the key makes it last. */
  forget(key: string, segment: Segment | undefined): void {
    const entry = this.entries.get(key);
    if (!entry) return;
    this.entries.delete(key);
    this.bytes -= entry.size;
    if (segment) segment.live -= entry.size + entry.headerBytes;
  }

  #set(key: string, entry: Entry): void {
    this.bytes += entry.size - (this.entries.get(key)?.size ?? 0);
    this.entries.set(key, entry);
  }

  /**
   * Writes what memory now says of `keys`, and the segment's checkpoint in the last batch. Not synced: LevelDB loses
   * only a tail, and a checkpoint that is lost takes with it no more than a rescan.
   */
  async persist(keys: Iterable<string>, checkpoint?: { segment: Segment; bytes: number }): Promise<void> {
    const operations: Operation[] = [];
    for (const key of keys) {
      const entry = this.entries.get(key);
      // Also a row for a key that went meanwhile: it deletes what an earlier batch wrote.
      operations.push(
        entry ? { type: 'put', key: chunkRow(key), value: encodeEntry(entry) } : { type: 'del', key: chunkRow(key) },
      );
      if (operations.length >= WRITE_BATCH) await this.#database.batch(operations.splice(0));
    }
    if (checkpoint) {
      const { segment, bytes } = checkpoint;
      this.checkpoints.set(segment.id, { identity: segment.identity, bytes });
      operations.push({ type: 'put', key: segmentRow(segment.id), value: encodeCheckpoint(segment.identity, bytes) });
    }
    if (operations.length > 0) await this.#database.batch(operations);
  }

  /** Forgets a segment's checkpoint, for good. */
  async dropCheckpoint(id: number): Promise<void> {
    this.checkpoints.delete(id);
    await this.#database.batch([
      { type: 'del', key: segmentRow(id) },
      { type: 'del', key: segmentRow(id, USES) },
    ]);
  }

  /** Writes down when chunks were last used, for the next start. `now` is by the clock of `used`. */
  async persistUses(now: number): Promise<void> {
    const bySegment = new Map<number, Entry[]>();
    for (const entry of this.entries.values()) {
      const others = bySegment.get(entry.segment);
      if (others) others.push(entry);
      else bySegment.set(entry.segment, [entry]);
    }
    for (const [id, entries] of bySegment) {
      const identity = this.checkpoints.get(id)?.identity;
      if (identity) await this.#database.put(segmentRow(id, USES), encodeLastUses(identity, entries, now));
    }
  }

  async close(): Promise<void> {
    await this.#database.close();
  }
}

function isLocked(error: unknown): boolean {
  return error instanceof Error && ((error as { code?: string }).code === 'LEVEL_LOCKED' || isLocked(error.cause));
}

function chunkRow(key: string): Buffer {
  return Buffer.from(`c${key}`, 'latin1');
}

function segmentRow(id: number, kind = SEGMENT): Buffer {
  const row = Buffer.alloc(5, kind);
  row.writeUInt32BE(id, 1);
  return row;
}

function encodeEntry(entry: Entry): Buffer {
  const value = Buffer.alloc(VALUE_BYTES);
  value.writeUInt32BE(entry.segment, 0);
  value.writeBigUInt64BE(BigInt(entry.offset), 4);
  value.writeUInt32BE(entry.size, 12);
  value.writeUInt32BE(entry.codec, 16);
  value.writeUInt16BE(entry.headerBytes, 20);
  return value;
}

function decodeEntry(value: Buffer): Entry {
  if (value.length !== VALUE_BYTES) throw new Error(`index row of ${value.length} bytes`);
  return {
    segment: value.readUInt32BE(0),
    offset: Number(value.readBigUInt64BE(4)),
    size: value.readUInt32BE(12),
    codec: value.readUInt32BE(16),
    headerBytes: value.readUInt16BE(20),
    used: NEVER,
  };
}

function encodeCheckpoint(identity: string, bytes: number): Buffer {
  const value = Buffer.alloc(24);
  value.write(identity, 'hex');
  value.writeBigUInt64BE(BigInt(bytes), 16);
  return value;
}

function decodeCheckpoint(value: Buffer): Checkpoint {
  if (value.length !== 24) throw new Error(`checkpoint row of ${value.length} bytes`);
  return { identity: value.toString('hex', 0, 16), bytes: Number(value.readBigUInt64BE(16)) };
}
