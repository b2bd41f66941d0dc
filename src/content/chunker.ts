import { createHash } from 'node:crypto';
import { MAX_CHUNK_BYTES } from './chunk.ts';

/** Sizes of chunks, in bytes. `min` and `average` are even; `average` is a power of two from 1 KiB to 512 KiB. */
export interface ChunkSizes {
  readonly min: number;
  readonly average: number;
  readonly max: number;
}

/**
 * Measured on two versions of 19 Debian packages as an uncompressed squashfs of 205 MB (bench/results/chunk-size.json):
 * the next version shares all but 0.44 / 0.48 / 0.52 / 0.58 / 0.65 of its bytes, in 10133 / 5028 / 2525 / 1245 / 625
 * chunks at 16 / 32 / 64 / 128 / 256 KiB. What moves is far less, since a chunk travels compressed against those it is
 * like: 0.058 / 0.057 / 0.058 of a kernel package at 64 / 128 / 256 KiB (bench delta). So the number of chunks decides:
 * each costs requests, have-map bits, index rows and a part of the manifest, while large ones make the start and the end
 * of a swarm slow. A minimum of half the average shares as much as one of a quarter and cuts 1.4 × as fast.
 */
export const DEFAULT_CHUNK_SIZES: ChunkSizes = { min: 64 * 1024, average: 128 * 1024, max: 512 * 1024 };

/** Behind the average a cut is likely, and what lies far ahead of it is gone through for nothing. Even. */
const BLOCK = 4096;

/** How many bits the mask is stricter before the average and laxer after it (FastCDC's normalisation level). */
const NORMALISATION = 2;

/** Random words by byte value, from a fixed text: part of the format, since another table cuts elsewhere. */
const GEAR = gearTable('bootmesh gear table 1');
const GEAR_SHIFTED = GEAR.map((word) => word << 1);

/**
 * Finds content-defined cuts: FastCDC (Xia et al., USENIX ATC 2016) with normalised chunking, and the two bytes a step
 * of its 2020 revision (IEEE TPDS), which measured 1.2 × one byte a step here. Pure: no state is kept between calls.
 */
export class Chunker {
  readonly sizes: ChunkSizes;
  readonly #strict: number;
  readonly #lax: number;

  constructor(sizes: ChunkSizes = DEFAULT_CHUNK_SIZES) {
    const { min, average, max } = sizes;
    const bits = Math.log2(average);
    if (!Number.isInteger(bits) || bits < 10 || bits > 19) {
      throw new RangeError(`chunk average ${average} is not a power of two from 1 KiB to 512 KiB`);
    }
    if (min % 2 !== 0 || min < 64 || min >= average || max <= average || max > MAX_CHUNK_BYTES) {
      throw new RangeError(
        `chunk sizes must be 64 <= min (even) < average < max <= ${MAX_CHUNK_BYTES}, got ${min}/${average}/${max}`,
      );
    }
    this.sizes = sizes;
    this.#strict = topBits(bits + NORMALISATION);
    this.#lax = topBits(bits - NORMALISATION);
  }

  /**
   * The end of the first chunk of `bytes[start, end)`, as an index into `bytes`. `end` itself means: no cut in here, so
   * the chunk ends there only if it is `max` long or the file ends.
   */
  cut(bytes: Uint8Array, start: number, end: number): number {
    const { min, average, max } = this.sizes;
    const length = end - start;
    if (length <= min) return end;
    const middle = start + Math.min(average, length);
    const last = start + Math.min(max, length);
    const floor = start + min;
    const early = first(bytes, floor, floor, middle, this.#strict);
    if (early >= 0) return early;
    for (let from = middle; from < last; from += BLOCK) {
      const late = first(bytes, floor, from, Math.min(last, from + BLOCK), this.#lax);
      if (late >= 0) return late;
    }
    return last;
  }
}

/**
 * The first cut in `bytes[from, end)`, or -1; hashes begin at `floor`. Two halves are gone through at once, since a hash
 * has to wait for the one before it, and a core can do more meanwhile: 1.35 × as fast as one. An odd last byte is never
 * a cut.
 */
function first(bytes: Uint8Array, floor: number, from: number, end: number, mask: number): number {
  const shifted = mask << 1;
  const half = ((end - from) >> 2) << 1;
  const there = from + half;
  let hash = hashBefore(bytes, floor, from);
  let ahead = hashBefore(bytes, floor, there);
  let i = from;
  // The indices stay inside bytes and the tables, hence the assertions: this loop is the chunker's whole cost.
  for (; i < there; i += 2) {
    const k = i + half;
    const next = ((hash << 2) + (GEAR_SHIFTED[bytes[i] as number] as number)) | 0;
    if ((next & shifted) === 0) return i + 1;
    const nextAhead = ((ahead << 2) + (GEAR_SHIFTED[bytes[k] as number] as number)) | 0;
    if ((nextAhead & shifted) === 0) break;
    const last = (next + (GEAR[bytes[i + 1] as number] as number)) | 0;
    if ((last & mask) === 0) return i + 2;
    const lastAhead = (nextAhead + (GEAR[bytes[k + 1] as number] as number)) | 0;
    if ((lastAhead & mask) === 0) break;
    hash = last;
    ahead = lastAhead;
  }
  // There is a cut in the second half, or the rest is less than four bytes: what is left is gone through in order.
  if (i === there) {
    i = there + half;
    hash = ahead;
  }
  for (; i + 1 < end; i += 2) {
    hash = ((hash << 2) + (GEAR_SHIFTED[bytes[i] as number] as number)) | 0;
    if ((hash & shifted) === 0) return i + 1;
    hash = (hash + (GEAR[bytes[i + 1] as number] as number)) | 0;
    if ((hash & mask) === 0) return i + 2;
  }
  return -1;
}

/** The hash of the bytes before `at`: what came before the last 32 has been shifted out. */
function hashBefore(bytes: Uint8Array, floor: number, at: number): number {
  let hash = 0;
  for (let i = Math.max(floor, at - 32); i < at; i++) hash = ((hash << 1) + (GEAR[bytes[i] as number] as number)) | 0;
  return hash;
}

/** `count` bits below the top one: the top bits depend on the most bytes, and the top one is lost by the shifted mask. */
function topBits(count: number): number {
  return (2 ** count - 1) * 2 ** (31 - count);
}

function gearTable(text: string): Int32Array {
  const table = new Int32Array(256);
  for (let i = 0; i < table.length; i++) {
    table[i] = createHash('sha256').update(`${text} ${i}`).digest().readInt32BE();
  }
  return table;
}
