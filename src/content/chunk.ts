import { hash } from 'node:crypto';
import { CID } from 'multiformats/cid';
import { create as createDigest } from 'multiformats/hashes/digest';

/** Upper bound of one chunk's plain bytes; anything larger is refused before it is allocated. */
export const MAX_CHUNK_BYTES = 1024 * 1024;

/** Multicodec codes of what a chunk may be: a piece of a file, or a node of a manifest. */
export const RAW = 0x55;
export const DAG_PB = 0x70;
export const SHA2_256 = 0x12;

/** A chunk that is known by name and size (plain bytes). */
export interface ChunkRef {
  readonly cid: CID;
  readonly size: number;
}

/** A chunk in hand: `bytes` are plain (never compressed) and match `cid`. */
export interface Chunk {
  readonly cid: CID;
  readonly bytes: Uint8Array;
}

/** CIDv1, sha2-256; `codec` is RAW for file pieces and DAG_PB for manifest nodes. */
export function chunkCid(bytes: Uint8Array, codec: number = RAW): CID {
  return CID.createV1(codec, createDigest(SHA2_256, hash('sha256', bytes, 'buffer')));
}

/** True when `bytes` are what `cid` names. A CID with a hash we do not know is never true. */
export function matches(cid: CID, bytes: Uint8Array): boolean {
  if (cid.multihash.code !== SHA2_256) return false;
  return hash('sha256', bytes, 'buffer').equals(cid.multihash.digest);
}

/** A compact in-memory key of a CID's hash: equal bytes, equal key, whatever the codec or the base. */
export function chunkKey(cid: CID): string {
  const { buffer, byteOffset, length } = cid.multihash.digest;
  return Buffer.from(buffer, byteOffset, length).toString('latin1');
}
