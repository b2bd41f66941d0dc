import { crc32 } from 'node:zlib';
import { type CID, CID as Cid } from 'multiformats/cid';
import { decode as decodeDigest } from 'multiformats/hashes/digest';
import { MAX_CHUNK_BYTES } from '../content/chunk.ts';
import type { Encoded } from '../content/chunk-source.ts';

/**
 * One chunk in a segment file, integers big-endian:
 *
 *     0   u32  magic 'BMR1'
 *     4   u8   format version, 1
 *     5   u8   flags; bit 0: the payload is a zstd frame; bit 1: C is there. A record with any other flag is skipped
 *     6   u16  length of the multihash, M
 *     8   u32  codec of the CID
 *     12  u32  stored bytes, S
 *     16  u32  plain bytes (equals S unless compressed)
 *     20  M    multihash of the plain bytes
 *     …   u32  C: CRC-32 of the payload as stored
 *     …   u32  CRC-32 of everything above
 *     …   S    payload
 *
 * The last CRC tells a record from noise. C tells a payload that the disk has damaged, at a third of a sha256's cost:
 * for those who hash it themselves. Whether the payload is right, only the multihash says.
 */
export interface Header {
  /** Codec of the CID. */
  readonly codec: number;
  readonly multihash: Buffer;
  /** The multihash without its code and length, when both have one byte. */
  readonly digest: Buffer;
  /** Bytes of the header. */
  readonly headerBytes: number;
  readonly encoding: Encoded['encoding'];
  /** Bytes of the payload as stored. */
  readonly storedBytes: number;
  /** Bytes of the chunk. */
  readonly plainBytes: number;
  /** CRC-32 of the payload as stored; records of earlier versions have none. */
  readonly crc: number | undefined;
}

export const RECORD_MAGIC = Buffer.from('BMR1', 'latin1');
const VERSION = 1;
const ZSTD = 1;
const CHECKED = 2;
const FIXED = 20;
const MAX_MULTIHASH = 128;
const MAX_HEADER_BYTES = FIXED + MAX_MULTIHASH + 8;
export const MAX_RECORD_BYTES = MAX_HEADER_BYTES + MAX_CHUNK_BYTES;

/** The header for a payload, whose CRC it takes when that is not known. */
export function encodeHeader(cid: CID, stored: Encoded, plainBytes: number): Buffer {
  const hash = cid.multihash.bytes;
  const header = Buffer.allocUnsafe(FIXED + hash.length + 8);
  RECORD_MAGIC.copy(header);
  header[4] = VERSION;
  header[5] = CHECKED | (stored.encoding === 'zstd' ? ZSTD : 0);
  header.writeUInt16BE(hash.length, 6);
  header.writeUInt32BE(cid.code, 8);
  header.writeUInt32BE(stored.bytes.length, 12);
  header.writeUInt32BE(plainBytes, 16);
  header.set(hash, FIXED);
  header.writeUInt32BE(stored.crc32 ?? crc32(stored.bytes), header.length - 8);
  header.writeUInt32BE(crc32(header.subarray(0, -4)), header.length - 4);
  return header;
}

/** The header at `offset`, or undefined when what is there is none that this version can read. */
export function decodeHeader(bytes: Buffer, offset = 0): Header | undefined {
  const room = bytes.length - offset;
  if (room < FIXED || !bytes.subarray(offset, offset + 4).equals(RECORD_MAGIC)) return undefined;
  const flags = bytes[offset + 5] as number;
  const hashBytes = bytes.readUInt16BE(offset + 6);
  const hashEnd = offset + FIXED + hashBytes;
  const crcAt = hashEnd + (flags & CHECKED ? 4 : 0);
  if (hashBytes > MAX_MULTIHASH || crcAt + 4 > bytes.length) return undefined;
  if (crc32(bytes.subarray(offset, crcAt)) !== bytes.readUInt32BE(crcAt)) return undefined;
  if (bytes[offset + 4] !== VERSION || (flags & ~(ZSTD | CHECKED)) !== 0) return undefined;
  const storedBytes = bytes.readUInt32BE(offset + 12);
  const plainBytes = bytes.readUInt32BE(offset + 16);
  const encoding = flags & ZSTD ? 'zstd' : 'plain';
  const possible = encoding === 'zstd' ? storedBytes < plainBytes : storedBytes === plainBytes;
  if (!possible || plainBytes > MAX_CHUNK_BYTES) return undefined;
  const multihash = bytes.subarray(offset + FIXED, hashEnd);
  return {
    codec: bytes.readUInt32BE(offset + 8),
    multihash,
    digest: multihash.subarray(2),
    headerBytes: crcAt + 4 - offset,
    encoding,
    storedBytes,
    plainBytes,
    crc: flags & CHECKED ? bytes.readUInt32BE(hashEnd) : undefined,
  };
}

/** The CID that a header names; undefined when its multihash is malformed, as this version writes none. */
export function cidOf({ codec, multihash }: Header): CID | undefined {
  try {
    return Cid.createV1(codec, decodeDigest(Uint8Array.from(multihash)));
  } catch {
    return undefined;
  }
}
