import { hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { MAX_CHUNK_BYTES } from '../content/chunk.ts';
import type { Chunker } from '../content/chunker.ts';
import { compressed, isLikelyCompressible } from '../content/compression.ts';

/** Memory of a region; shared when another thread works on it. Its first half is for bytes of the file. */
export type RegionMemory = ArrayBuffer | SharedArrayBuffer;

const MIB = 1024 * 1024;
/** The first regions of a file are small, so that little waits for a stream that is slow, or short. */
const SMALL = { count: 16, bytes: 2 * MIB };
const LARGE_BYTES = 8 * MIB;

/** What one thread cuts at a time: bytes of a file. The chunks that start in them belong to the region. */
export interface Region {
  /** Where it is in the file. */
  readonly base: number;
  readonly bytes: number;
}

export function regionAt(index: number): Region {
  if (index < SMALL.count) return { base: index * SMALL.bytes, bytes: SMALL.bytes };
  return { base: SMALL.count * SMALL.bytes + (index - SMALL.count) * LARGE_BYTES, bytes: LARGE_BYTES };
}

/** A region's bytes and those of a chunk that starts just before its end. */
export const ROOM_BYTES = LARGE_BYTES + MAX_CHUNK_BYTES;
/** Behind the file's bytes is as much room for the frames of its chunks. */
export const MEMORY_BYTES = 2 * ROOM_BYTES;

/** Most that one read of a file brings: it is cut and hashed while the core's own cache still has it. */
const READ_BYTES = 512 * 1024;
const DIGEST_BYTES = 32;

/** What is to be cut. Numbers are bytes from the region's start. */
export interface CutTask {
  readonly memory: RegionMemory;
  /** The first chunk starts here… */
  readonly start: number;
  /** …and the last one before this. */
  readonly end: number;
  /** So much of the region is there already. */
  readonly filled: number;
  /** Ends before a chunk that starts at one of these, which are in order. */
  readonly known: Uint32Array;
}

/** Three words a chunk: its end, the CRC-32 of its bytes, and 1 when it is worth an attempt to compress it. */
const WORDS = 3;

/** Chunks of a region, in order, without gaps. */
export class Cut {
  /** Where the first starts, and the last ends. */
  readonly start: number;
  readonly end: number;
  /** Bytes of the region that are there. */
  readonly filled: number;
  readonly table: Uint32Array;
  /** 32 bytes of sha256 a chunk. */
  readonly digests: Uint8Array;

  constructor(fields: { start: number; end: number; filled: number; table?: Uint32Array; digests?: Uint8Array }) {
    this.start = fields.start;
    this.end = fields.end;
    this.filled = fields.filled;
    this.table = fields.table ?? new Uint32Array();
    this.digests = fields.digests ?? new Uint8Array();
  }

  get count(): number {
    return this.table.length / WORDS;
  }

  startOf(index: number): number {
    return index === 0 ? this.start : this.endOf(index - 1);
  }

  endOf(index: number): number {
    return this.table[index * WORDS] as number;
  }

  crcOf(index: number): number {
    return this.table[index * WORDS + 1] as number;
  }

  isCompressible(index: number): boolean {
    return this.table[index * WORDS + 2] === 1;
  }

  digestOf(index: number): Uint8Array {
    return this.digests.slice(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
  }

  /** Where its chunks start. */
  starts(): Uint32Array {
    return Uint32Array.from({ length: this.count }, (_, index) => this.startOf(index));
  }

  /** The chunks of `before`, and its own from `index` on, which must start where those end. */
  after(before: Cut, index: number): Cut {
    return new Cut({
      start: before.start,
      end: index < this.count ? this.end : before.end,
      filled: this.filled,
      table: Uint32Array.from([...before.table, ...this.table.subarray(index * WORDS)]),
      digests: Buffer.concat([before.digests, this.digests.subarray(index * DIGEST_BYTES)]),
    });
  }
}

/**
 * Cuts and hashes, on the thread that calls it. `read` brings more of the file into the memory that it is given, 0
 * bytes when there is no more; without it the file has no more than what is filled, or the region is full.
 */
export function cutRegion(task: CutTask, chunker: Chunker, read?: (into: Uint8Array) => number): Cut {
  const bytes = new Uint8Array(task.memory, 0, ROOM_BYTES);
  const { max } = chunker.sizes;
  const table: number[] = [];
  const digests: Uint8Array[] = [];
  let { start, filled } = task;
  let more = read;
  let next = 0;
  while (start < task.end) {
    while (next < task.known.length && (task.known[next] as number) < start) next++;
    if (task.known[next] === start) break;
    while (more && filled < Math.min(ROOM_BYTES, start + max)) {
      const got = more(bytes.subarray(filled, Math.min(ROOM_BYTES, filled + READ_BYTES)));
      filled += got;
      if (got === 0) more = undefined;
    }
    if (start >= filled) break;
    const end = chunker.cut(bytes, start, filled);
    const chunk = bytes.subarray(start, end);
    digests.push(hash('sha256', chunk, 'buffer'));
    table.push(end, crc32(chunk), isLikelyCompressible(chunk) ? 1 : 0);
    start = end;
  }
  return new Cut({
    start: task.start,
    end: start,
    filled,
    table: Uint32Array.from(table),
    digests: Buffer.concat(digests),
  });
}

/** Chunks of a region that are to be compressed. */
export interface PackTask {
  readonly memory: RegionMemory;
  /** Two words a chunk: its start and its end in the region. */
  readonly chunks: Uint32Array;
  /** Frames are written from here on. */
  readonly frames: number;
}

/** Three words a chunk: start and end of its frame in the region's memory, and the frame's CRC-32. 0, 0, 0: it does not pay. */
export type Packed = Uint32Array;

export function packChunks({ memory, chunks, frames }: PackTask): Packed {
  const bytes = new Uint8Array(memory);
  const packed = new Uint32Array((chunks.length / 2) * 3);
  let at = frames;
  for (let i = 0; i < chunks.length / 2; i++) {
    const frame = compressed(bytes.subarray(chunks[2 * i], chunks[2 * i + 1]))?.bytes;
    // A frame is smaller than its chunk, and the chunks' room is as large as theirs.
    if (!frame) continue;
    bytes.set(frame, at);
    packed.set([at, at + frame.length, crc32(frame)], 3 * i);
    at += frame.length;
  }
  return packed;
}
