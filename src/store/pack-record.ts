import { crc32 } from 'node:zlib';
import { type CID, CID as Cid } from 'multiformats/cid';
import { decode as decodeDigest } from 'multiformats/hashes/digest';
import { MAX_CHUNK_BYTES } from '../content/chunk.ts';

/**
 * One chunk in a segment file, integers big-endian:
 *
 *     0   u32  magic 'BMR1'
 *     4   u8   format version, 1
 *     5   u8   flags; bit 0 is kept for "payload is zstd". A reader skips a record with a flag it does not know
 *     6   u16  length of the multihash, M
 *     8   u32  codec of the CID
 *     12  u32  stored bytes, S
 *     16  u32  plain bytes (equals S unless compressed)
 *     20  M    multihash of the plain bytes
 *     …   u32  CRC-32 of everything above
 *     …   S    payload
 *
 * The CRC only tells a record from noise; whether the payload is right, the multihash says.
 */
export interface RecordHeader {
  readonly cid: CID;
  /** Bytes of the header. */
  readonly headerBytes: number;
  /** Bytes of the payload as stored. */
  readonly storedBytes: number;
}

export const RECORD_MAGIC = Buffer.from('BMR1', 'latin1');
const VERSION = 1;
const FIXED = 20;
const MAX_MULTIHASH = 128;
const MAX_HEADER_BYTES = FIXED + MAX_MULTIHASH + 4;
export const MAX_RECORD_BYTES = MAX_HEADER_BYTES + MAX_CHUNK_BYTES;

export function headerBytes(cid: CID): number {
  return FIXED + cid.multihash.bytes.length + 4;
}

export function encodeHeader(cid: CID, size: number): Buffer {
  const hash = cid.multihash.bytes;
  const header = Buffer.alloc(headerBytes(cid));
  RECORD_MAGIC.copy(header);
  header.writeUInt8(VERSION, 4);
  header.writeUInt16BE(hash.length, 6);
  header.writeUInt32BE(cid.code, 8);
  header.writeUInt32BE(size, 12);
  header.writeUInt32BE(size, 16);
  header.set(hash, FIXED);
  header.writeUInt32BE(crc32(header.subarray(0, -4)), header.length - 4);
  return header;
}

/** The header at `offset`, or undefined when what is there is none that this version can read. */
export function decodeHeader(bytes: Buffer, offset = 0): RecordHeader | undefined {
  const room = bytes.length - offset;
  if (room < FIXED || !bytes.subarray(offset, offset + 4).equals(RECORD_MAGIC)) return undefined;
  const hashBytes = bytes.readUInt16BE(offset + 6);
  const crcAt = offset + FIXED + hashBytes;
  if (hashBytes > MAX_MULTIHASH || crcAt + 4 > bytes.length) return undefined;
  if (crc32(bytes.subarray(offset, crcAt)) !== bytes.readUInt32BE(crcAt)) return undefined;
  const storedBytes = bytes.readUInt32BE(offset + 12);
  const known = bytes[offset + 4] === VERSION && bytes[offset + 5] === 0;
  if (!known || storedBytes > MAX_CHUNK_BYTES || storedBytes !== bytes.readUInt32BE(offset + 16)) return undefined;
  const cid = decodeCid(bytes.readUInt32BE(offset + 8), bytes.subarray(offset + FIXED, crcAt));
  return cid && { cid, headerBytes: FIXED + hashBytes + 4, storedBytes };
}

function decodeCid(codec: number, multihash: Buffer): CID | undefined {
  try {
    return Cid.createV1(codec, decodeDigest(Uint8Array.from(multihash)));
  } catch {
    return undefined; // A valid CRC over a malformed multihash: not something that this version wrote.
  }
}
