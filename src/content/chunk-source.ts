import type { CID } from 'multiformats/cid';

export interface GetOptions {
  /** Ends this caller's wait. A shared fetch goes on for its other waiters. */
  readonly signal: AbortSignal;
}

/**
 * Anything that can be asked for a chunk: the store, the swarm, an HTTP origin, or a wrapper around others.
 *
 * `get` resolves to the chunk's plain bytes, or to `undefined` when this source does not have it (missing is
 * expected). It rejects with `CorruptChunk` when it had bytes that do not match the CID (an alarm), with the signal's
 * reason when aborted, and with the source's own error when it cannot be reached. Unless a source says that it
 * verifies, wrap it in `verified(…)`.
 */
export interface ChunkSource {
  get(cid: CID, options: GetOptions): Promise<Uint8Array | undefined>;
}

/** A chunk's bytes as they are kept or sent; the CID is that of the plain bytes, whichever form they have. */
export interface Encoded {
  readonly encoding: 'plain' | 'zstd';
  readonly bytes: Uint8Array;
  /** CRC-32 of `bytes`, where it is known already. */
  readonly crc32?: number;
  /** May be called once nobody reads `bytes` any more: the memory is used again. */
  readonly release?: () => void;
}

export interface EncodedOptions extends GetOptions {
  /** The caller takes a zstd frame as well. */
  readonly zstd: boolean;
}

/** A source that also keeps what it is given. */
export interface ChunkStore extends ChunkSource {
  /** At once where the store knows without looking. */
  has(cid: CID): boolean | Promise<boolean>;
  /**
   * Keeps `bytes`: plain, verified, and not changed until this resolves. Idempotent. A chunk that came as a zstd frame
   * of those bytes is kept as that frame, `encoded`.
   */
  put(cid: CID, bytes: Uint8Array, encoded?: Encoded): Promise<void>;
  /**
   * The chunk for sending it to someone who hashes it: as it is kept when `zstd` is accepted, else plain. Checked
   * against damage on disk by a checksum, and not by its hash. Otherwise like `get`. A store without it is asked by `get`.
   */
  encoded?(cid: CID, options: EncodedOptions): Promise<Encoded | undefined>;
}

/** Bytes did not match their name. `from` says who gave them: a peer id, a URL, or a file and offset. */
export class CorruptChunk extends Error {
  readonly code = 'CORRUPT_CHUNK';
  readonly cid: CID;
  readonly from: string;

  constructor(cid: CID, from: string, options?: ErrorOptions) {
    super(`bytes from ${from} do not match chunk ${cid}`, options);
    this.name = 'CorruptChunk';
    this.cid = cid;
    this.from = from;
  }
}
