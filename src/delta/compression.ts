import { constants, type ZstdOptions, zstdCompress, zstdDecompress } from 'node:zlib';
import { MAX_CHUNK_BYTES } from '../content/chunk.ts';

/**
 * Most bytes of older chunks that one chunk is compressed against. In chunks of 64 KiB three neighbours said as much as
 * four (0.0536 of a kernel image's bytes against 0.0549 with two), and the window below has room for them.
 */
export const MAX_LIKE_BYTES = MAX_CHUNK_BYTES;

/** No frame of ours looks back further: a chunk and what it is like. Bounds what a stranger's frame makes us allocate. */
const WINDOW_LOG = 21;
/** The first buffer for a frame that does not say its size. */
const UNKNOWN_BYTES = 64 * 1024;
/** zstd's magic number, little endian (RFC 8878, section 3.1.1). */
const MAGIC = 0xfd2fb528;

/** Bytes that are no zstd frame of one chunk, or not of the size that was promised. */
export class BadCompression extends Error {
  readonly code = 'BAD_COMPRESSION';

  constructor(problem: string, options?: ErrorOptions) {
    super(`not one compressed chunk: ${problem}`, options);
    this.name = 'BadCompression';
  }
}

export interface CompressOptions {
  /** zstd's level, 1 to 19. */
  readonly level: number;
  /** Older bytes that the reader has as well, most useful last. @default none */
  readonly like?: Uint8Array | undefined;
}

/** One zstd frame that says its plain size, made in libuv's pool. */
export async function compress(bytes: Uint8Array, { level, like }: CompressOptions): Promise<Uint8Array> {
  const window = like === undefined ? {} : { [constants.ZSTD_c_windowLog]: WINDOW_LOG };
  const options: ZstdOptions = {
    // Else the frame would not say it.
    pledgedSrcSize: bytes.length,
    params: { [constants.ZSTD_c_compressionLevel]: level, ...window },
    ...(like && { dictionary: like }),
  };
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
  zstdCompress(bytes, options, (error, result) => (error ? reject(error) : resolve(result)));
  return await promise;
}

export interface DecompressOptions {
  /** Plain bytes that it must come to; undefined when any chunk would do. */
  readonly size?: number | undefined;
  /** What it was compressed against. @default nothing */
  readonly like?: Uint8Array | undefined;
}

/**
 * The plain bytes of one zstd frame, in a buffer of exactly their size. Whatever the frame claims, no more than the
 * promised size is allocated for it, MAX_CHUNK_BYTES at most. Rejects with `BadCompression`.
 */
export async function decompress(bytes: Uint8Array, { size, like }: DecompressOptions = {}): Promise<Uint8Array> {
  const said = plainSize(bytes) ?? size;
  if (said !== undefined && (said < 1 || said > MAX_CHUNK_BYTES || (size ?? said) !== said)) {
    throw new BadCompression(`it says ${said} plain bytes, ${size ?? `at most ${MAX_CHUNK_BYTES}`} are wanted`);
  }
  const options: ZstdOptions = {
    maxOutputLength: said ?? MAX_CHUNK_BYTES,
    // One buffer, and not a list of 16 KiB ones that is copied together at the end.
    chunkSize: Math.max(64, said ?? UNKNOWN_BYTES),
    rejectGarbageAfterEnd: true,
    params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG },
    ...(like && { dictionary: like }),
  };
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
  zstdDecompress(bytes, options, (error, result) => (error ? reject(error) : resolve(result)));
  const result = await promise.catch((cause: Error) => {
    throw new BadCompression(cause.message, { cause });
  });
  if (result.length !== (said ?? result.length)) {
    throw new BadCompression(`${said} plain bytes are wanted, and it holds ${result.length}`);
  }
  return result;
}

/** What the frame's header says that it holds (RFC 8878, section 3.1.1.1); undefined when it is none, or does not say. */
export function plainSize(bytes: Uint8Array): number | undefined {
  if (bytes.length < 6) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== MAGIC) return undefined;
  const descriptor = view.getUint8(4);
  const single = (descriptor & 0x20) !== 0;
  const at = 5 + (single ? 0 : 1) + ([0, 1, 2, 4][descriptor & 3] as number);
  const field = [single ? 1 : 0, 2, 4, 8][descriptor >> 6] as number;
  if (field === 0 || at + field > bytes.length) return undefined;
  if (field === 1) return view.getUint8(at);
  if (field === 2) return view.getUint16(at, true) + 256;
  if (field === 4) return view.getUint32(at, true);
  return Number(view.getBigUint64(at, true));
}
