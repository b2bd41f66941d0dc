import type { CID } from 'multiformats/cid';
import { MAX_CHUNK_BYTES } from '../content/chunk.ts';
import type { ChunkSource, Encoded, EncodedOptions, GetOptions } from '../content/chunk-source.ts';
import { Gate } from '../content/gate.ts';
import { BadCompression, compress, decompress } from '../delta/compression.ts';
import { readAll } from '../delta/likeness.ts';
import type { RecentChunks } from './recent.ts';

/** Lane frame flags; a peer's hello says which it reads. */
export const FRAME_FLAGS = {
  /** The bytes are a zstd frame of the chunk. */
  zstd: 1,
  /** …compressed against the chunks that the request named; only together with `zstd`. */
  like: 2,
} as const;

/** What we read. */
export const ACCEPTED_FLAGS: number = FRAME_FLAGS.zstd | FRAME_FLAGS.like;

/**
 * Bytes of a kernel image's next version that cross the wire at level 3 / 6 / 9 / 15: 0.0545 / 0.0536 / 0.0531 / 0.0481
 * of it, compressed at 110 / 85 / 80 / 7 MB/s of plain bytes on one core here.
 */
const LIKE_LEVEL = 6;
/** What is this small as it is kept is not worth the look at other chunks. */
const WORTH_BYTES = 512;
/** Chunks that are being compressed for peers at a time: the work is done in libuv's pool, which others need too. */
const COMPRESSING = 2;

/** Our store, asked for a chunk as it is kept where it can give that. */
export interface PackedStore extends ChunkSource {
  encoded?(cid: CID, options: EncodedOptions): Promise<Encoded | undefined>;
}

/** A chunk as it leaves. */
export interface Packed {
  readonly flags: number;
  readonly bytes: Uint8Array;
  /** May be called once it has left: its memory is used again. */
  readonly release?: () => void;
}

export interface PackOptions {
  /** Flags that the receiver reads. */
  readonly accepts: number;
  /** Chunks that the receiver has and thinks are like it. */
  readonly like: readonly CID[];
  /** Fewer bytes are worth waiting for: the receiver is outside our site. */
  readonly far: boolean;
  readonly signal: AbortSignal;
}

/** Makes chunks ready to leave, in as few bytes as their receiver can read. One for all peers. */
export class Packer {
  readonly #store: PackedStore;
  readonly #recent: RecentChunks;
  readonly #gate = new Gate(COMPRESSING);
  #compressing = 0;

  constructor(store: PackedStore, recent: RecentChunks) {
    this.#store = store;
    this.#recent = recent;
  }

  /** Undefined when the store has no such chunk, or cannot read it. */
  async pack(cid: CID, { accepts, like, far, signal }: PackOptions): Promise<Packed | undefined> {
    const kept = await this.#kept(cid, (accepts & FRAME_FLAGS.zstd) !== 0, signal);
    if (kept === undefined || (accepts & ACCEPTED_FLAGS) !== ACCEPTED_FLAGS) return kept;
    if (like.length === 0 || kept.bytes.length < WORTH_BYTES) return kept;
    // To a neighbour bytes are cheap: it gets them as they are rather than wait for a turn.
    if (!far && this.#compressing >= COMPRESSING) return kept;
    this.#compressing += 1;
    try {
      const bytes = await this.#gate.run(() => this.#against(cid, like, signal), signal);
      if (bytes === undefined || bytes.length >= kept.bytes.length) return kept;
      kept.release?.();
      return { flags: ACCEPTED_FLAGS, bytes };
    } finally {
      this.#compressing -= 1;
    }
  }

  async #kept(cid: CID, zstd: boolean, signal: AbortSignal): Promise<Packed | undefined> {
    const recent = this.#recent.borrow(cid);
    if (recent !== undefined) return { flags: 0, ...recent };
    if (this.#store.encoded !== undefined) {
      const encoded = await this.#store.encoded(cid, { signal, zstd });
      if (encoded === undefined) return undefined;
      const { encoding, bytes, release } = encoded;
      return { flags: encoding === 'zstd' ? FRAME_FLAGS.zstd : 0, bytes, ...(release && { release }) };
    }
    const bytes = await this.#store.get(cid, { signal });
    return bytes && { flags: 0, bytes };
  }

  /** Undefined when we do not have what it is to be like. */
  async #against(cid: CID, names: readonly CID[], signal: AbortSignal): Promise<Uint8Array | undefined> {
    const like = await readAll(this.#store, names, { signal });
    const plain = like && (await this.#store.get(cid, { signal }));
    return plain && (await compress(plain, { level: LIKE_LEVEL, like }));
  }
}

/** What was asked for, as far as unpacking it goes. */
export interface Expected {
  /** Plain bytes; undefined when only the name is known. */
  readonly size: number | undefined;
  readonly like?: Like | undefined;
}

/** Chunks that we hold, which what is asked for may be compressed against. */
export interface Like {
  readonly names: readonly CID[];
  readonly from: {
    /** All of their bytes, one after the other; undefined when one is gone. */
    read(names: readonly CID[], options: GetOptions): Promise<Uint8Array | undefined>;
  };
}

/** Most bytes that a frame with these flags may carry for it; 0 when such a frame was not asked for. */
export function allowance({ size = MAX_CHUNK_BYTES, like }: Expected, flags: number): number {
  switch (flags) {
    case 0:
      return size;
    case FRAME_FLAGS.zstd:
      // Compression that does not make it smaller is refused: nobody of ours would send it.
      return size - 1;
    case ACCEPTED_FLAGS:
      return like === undefined || like.names.length === 0 ? 0 : size - 1;
    default:
      return 0;
  }
}

/**
 * The plain bytes of a frame that `allowance` let pass; whether they are the right ones is for a hash to say. Undefined
 * when we have lost what we asked to have it compressed against. Rejects with `BadCompression`.
 */
export async function unpack(
  { size, like }: Expected,
  { flags, bytes }: Packed,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  if (flags === 0) return bytes;
  if (flags === FRAME_FLAGS.zstd) return await decompress(bytes, { size });
  if (flags !== ACCEPTED_FLAGS || like === undefined) throw new BadCompression(`flags ${flags}`);
  const old = await like.from.read(like.names, { signal });
  return old && (await decompress(bytes, { size, like: old }));
}
