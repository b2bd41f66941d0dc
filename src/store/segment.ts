import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import type { CID } from 'multiformats/cid';
import { syncDirectory } from '../disk/durable-file.ts';
import { cidOf, decodeHeader, MAX_RECORD_BYTES, RECORD_MAGIC } from './pack-record.ts';
import { chunkIn } from './payload.ts';

/**
 * A segment file starts with this header, integers big-endian: `u32 'BMSG'`, `u8` format version 1, 3 zero bytes, 16
 * random bytes (its identity: file names may come again after GC, identities do not), `u32` CRC-32 of the above.
 * Records follow without gaps.
 */
export const SEGMENT_HEADER_BYTES = 28;
const SEGMENT_MAGIC = Buffer.from('BMSG', 'latin1');
const VERSION = 1;
const SUFFIX = '.segment';

/** Bytes read at a time by a scan; larger than any record. */
const SCAN_BYTES = 4 * 1024 * 1024;

/** Where a record is inside a segment. */
export interface RecordPlace {
  readonly cid: CID;
  /** Offset of the record's header in the file. */
  readonly offset: number;
  readonly headerBytes: number;
  readonly storedBytes: number;
}

/** One append-only file of records. Its writer moves `size`; its live bytes are counted by the index. */
export class Segment {
  readonly id: number;
  readonly path: string;
  readonly identity: string;
  /** Bytes of the file that hold records; the next record goes here. */
  size: number;
  /** Bytes of records (headers included) that the index points to. */
  live = 0;
  /** Reads under way. The file of a retired segment goes away when the last one leaves. */
  readers = 0;
  retired = false;

  constructor(id: number, path: string, identity: string, size: number) {
    this.id = id;
    this.path = path;
    this.identity = identity;
    this.size = size;
  }

  get name(): string {
    return basename(this.path);
  }

  /** Makes an empty segment durably: the file, its header and its name in the directory are on disk. */
  static async create(directory: string, id: number): Promise<Segment> {
    const path = join(directory, `${String(id).padStart(8, '0')}${SUFFIX}`);
    await using file = await open(path, 'wx', 0o600);
    try {
      const identity = await writeHeader(file);
      await syncDirectory(dirname(path));
      return new Segment(id, path, identity, SEGMENT_HEADER_BYTES);
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
  }

  /** The segment in the file `path`, or undefined when it has no valid header. `size` is that of the file. */
  static async load(path: string): Promise<Segment | undefined> {
    await using file = await open(path, 'r');
    const header = Buffer.alloc(SEGMENT_HEADER_BYTES);
    const { bytesRead } = await file.read(header, 0, SEGMENT_HEADER_BYTES, 0);
    if (bytesRead < SEGMENT_HEADER_BYTES || !header.subarray(0, 4).equals(SEGMENT_MAGIC)) return undefined;
    if (crc32(header.subarray(0, -4)) !== header.readUInt32BE(SEGMENT_HEADER_BYTES - 4)) return undefined;
    if (header[4] !== VERSION) return undefined;
    const { size } = await file.stat();
    return new Segment(Number.parseInt(basename(path), 10), path, header.toString('hex', 8, 24), size);
  }

  /** Gives a file without a valid header a new one, so that its records can be read again; undefined if it has none. */
  static async repair(path: string): Promise<Segment | undefined> {
    await using file = await open(path, 'r+');
    const { size } = await file.stat();
    if (size <= SEGMENT_HEADER_BYTES) return undefined;
    return new Segment(Number.parseInt(basename(path), 10), path, await writeHeader(file), size);
  }

  static isName(name: string): boolean {
    return /^\d{8,}\.segment$/.test(name);
  }
}

/** Writes and syncs a header with a fresh identity, which it returns. */
async function writeHeader(file: FileHandle): Promise<string> {
  const identity = randomBytes(16);
  const header = Buffer.alloc(SEGMENT_HEADER_BYTES);
  SEGMENT_MAGIC.copy(header);
  header.writeUInt8(VERSION, 4);
  identity.copy(header, 8);
  header.writeUInt32BE(crc32(header.subarray(0, -4)), SEGMENT_HEADER_BYTES - 4);
  await file.write(header, 0, header.length, 0);
  await file.sync();
  return identity.toString('hex');
}

/**
 * The right records of `file` from `from` on: header readable, payload complete and matching its hash. Damage is
 * stepped over to the next right record. What a payload itself contains may look like a record and is then one: its
 * hash is checked like any other's, so the worst that can come of it is a second copy.
 */
export async function* scanRecords(file: FileHandle, from: number, signal?: AbortSignal): AsyncGenerator<RecordPlace> {
  const { size } = await file.stat();
  const window = Buffer.allocUnsafeSlow(SCAN_BYTES);
  let at = from;
  while (at < size) {
    signal?.throwIfAborted();
    const filled = await readFully(file, window, at);
    if (filled === 0) return;
    const atEnd = at + filled >= size;
    const view = window.subarray(0, filled);
    let i = 0;
    while (i < filled && (atEnd || filled - i >= MAX_RECORD_BYTES)) {
      const place = await recordAt(view, i);
      if (place) {
        yield { ...place, offset: at + i };
        i += place.headerBytes + place.storedBytes;
        continue;
      }
      const next = view.indexOf(RECORD_MAGIC, i + 1);
      // The magic may straddle the window's end.
      i = next >= 0 ? next : Math.max(i + 1, filled - RECORD_MAGIC.length + 1);
    }
    at += i;
  }
}

async function recordAt(view: Buffer, offset: number): Promise<Omit<RecordPlace, 'offset'> | undefined> {
  const header = decodeHeader(view, offset);
  const cid = header && cidOf(header);
  if (!cid) return undefined;
  const start = offset + header.headerBytes;
  const right = await chunkIn(cid, header, view.subarray(start, start + header.storedBytes));
  return right && { cid, headerBytes: header.headerBytes, storedBytes: header.storedBytes };
}

/** Reads until `into` is full or the file ends; returns the bytes read. */
export async function readFully(file: FileHandle, into: Uint8Array, position: number): Promise<number> {
  let filled = 0;
  while (filled < into.length) {
    const { bytesRead } = await file.read(into, filled, into.length - filled, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
}
