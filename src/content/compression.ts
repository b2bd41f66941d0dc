import { constants, zstdCompressSync, zstdDecompress } from 'node:zlib';
import type { Encoded } from './chunk-source.ts';

/**
 * Of 105 MB of a Debian kernel package as an uncompressed squashfs, in chunks of 64 KiB, one core: level 1 leaves 0.585
 * at 0.51 GB/s, 3 leaves 0.583 at 0.46, 6 leaves 0.572 at 0.16, 9 leaves 0.570 at 0.11.
 */
const LEVEL = 3;
/** A chunk is kept compressed when that leaves at most this share of it: less saved is not worth its decompression. */
const WORTH = 0.9;

/** The probe looks at this many runs of so many bytes. */
const PROBE_RUNS = 16;
const PROBE_RUN_BYTES = 128;
/**
 * Two bytes of it are equal this many times as often as of random ones. 1.00 are random bytes; of 9,500 chunks of
 * package images, this let through all but one that zstd could bring to 0.9, and stopped 0.97 of those that it could not
 * in images that were compressed before.
 */
const PROBE_THRESHOLD = 1.1;

/** The chunk as zstd leaves it, made on the calling thread; undefined when that does not pay. */
export function compressed(bytes: Uint8Array): Encoded | undefined {
  if (!isLikelyCompressible(bytes)) return undefined;
  const most = Math.floor(bytes.length * WORTH);
  // One buffer for the result, and not a list of 16 KiB ones that is copied together at the end.
  const options = { chunkSize: Math.max(64, most), params: { [constants.ZSTD_c_compressionLevel]: LEVEL } };
  const frame = zstdCompressSync(bytes, options);
  return frame.length <= most ? { encoding: 'zstd', bytes: frame } : undefined;
}

/**
 * The chunk of `size` plain bytes that `frame` was made from. Never more than `size` is allocated, whatever the frame
 * says; undefined when it holds anything else than `size` bytes.
 */
export async function decompressed(frame: Uint8Array, size: number): Promise<Uint8Array | undefined> {
  const options = { maxOutputLength: Math.max(1, size), chunkSize: Math.max(64, size), rejectGarbageAfterEnd: true };
  const { promise, resolve } = Promise.withResolvers<Uint8Array | undefined>();
  zstdDecompress(frame, options, (error, result) => resolve(error ? undefined : result));
  const bytes = await promise;
  return bytes?.length === size ? bytes : undefined;
}

/**
 * Whether `bytes` are worth an attempt: 2 KiB of them, in runs, are counted by value. Random, encrypted and compressed
 * bytes have all values equally often, and cost a few microseconds.
 */
export function isLikelyCompressible(bytes: Uint8Array): boolean {
  const counts = new Uint16Array(256);
  const step = Math.max(PROBE_RUN_BYTES, Math.floor(bytes.length / PROBE_RUNS));
  let seen = 0;
  for (let start = 0; start + PROBE_RUN_BYTES <= bytes.length; start += step) {
    for (let i = start; i < start + PROBE_RUN_BYTES; i++) (counts[bytes[i] as number] as number)++;
    seen += PROBE_RUN_BYTES;
  }
  // An unbiased estimate of the probability that two bytes are equal, in units of that of random bytes.
  let pairs = 0;
  for (const count of counts) pairs += count * (count - 1);
  return seen > 0 && (256 * pairs) / (seen * (seen - 1)) > PROBE_THRESHOLD;
}
