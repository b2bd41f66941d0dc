import { crc32 } from 'node:zlib';
import type { CID } from 'multiformats/cid';
import { matches } from '../content/chunk.ts';
import type { Encoded } from '../content/chunk-source.ts';
import { decompressed } from '../content/compression.ts';
import type { Header } from './pack-record.ts';

/** The chunk that `payload`, the bytes behind `header`, holds; undefined when it is not what `cid` names. */
export async function chunkIn(cid: CID, header: Header, payload: Uint8Array): Promise<Uint8Array | undefined> {
  if (payload.length !== header.storedBytes) return undefined;
  const bytes = header.encoding === 'zstd' ? await decompressed(payload, header.plainBytes) : payload;
  return bytes && matches(cid, bytes) ? bytes : undefined;
}

/**
 * The payload as it is, when its checksum says that it is what was written for `cid`; by its hash where there is no
 * checksum.
 */
export async function encodedIn(cid: CID, header: Header, payload: Uint8Array): Promise<Encoded | undefined> {
  const { crc, encoding } = header;
  if (crc === undefined) {
    const bytes = await chunkIn(cid, header, payload);
    return bytes && { encoding: 'plain', bytes };
  }
  if (payload.length !== header.storedBytes || crc32(payload) !== crc) return undefined;
  return header.digest.equals(cid.multihash.digest) ? { encoding, bytes: payload, crc32: crc } : undefined;
}
