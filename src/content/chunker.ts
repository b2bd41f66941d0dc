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
 * the next version moves 0.44 / 0.48 / 0.52 / 0.58 / 0.65 of its bytes in 10133 / 5028 / 2525 / 1245 / 625 chunks at
 * 16 / 32 / 64 / 128 / 256 KiB. Below 64 KiB twice the chunks (requests, have-map bits, index entries) save 8 % of the
 * bytes, above it half the chunks cost 12 %. A minimum of half the average moves as much as one of a quarter and
 * cuts 1.4 × as fast. As a zstd or xz squashfs 0.69 moves, of a third of the bytes.
 */
export const DEFAULT_CHUNK_SIZES: ChunkSizes = { min: 32 * 1024, average: 64 * 1024, max: 256 * 1024 };

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
    const strict = this.#strict;
    const strictShifted = strict << 1;
    const lax = this.#lax;
    const laxShifted = lax << 1;
    let hash = 0;
    let i = start + min;
    // The indices stay inside bytes and the tables, hence the assertions: this loop is the chunker's whole cost.
    for (; i + 1 < middle; i += 2) {
      hash = ((hash << 2) + (GEAR_SHIFTED[bytes[i] as number] as number)) | 0;
      if ((hash & strictShifted) === 0) return i + 1;
      hash = (hash + (GEAR[bytes[i + 1] as number] as number)) | 0;
      if ((hash & strict) === 0) return i + 2;
    }
    for (; i + 1 < last; i += 2) {
      hash = ((hash << 2) + (GEAR_SHIFTED[bytes[i] as number] as number)) | 0;
      if ((hash & laxShifted) === 0) return i + 1;
      hash = (hash + (GEAR[bytes[i + 1] as number] as number)) | 0;
      if ((hash & lax) === 0) return i + 2;
    }
    return last;
  }
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
