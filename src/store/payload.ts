import { crc32 } from 'node:zlib';
import { matches } from '../content/chunk.ts';
import type { Encoded } from '../content/chunk-source.ts';
import { decompressed } from '../content/compression.ts';
import type { RecordHeader } from './pack-record.ts';

/** The chunk that `payload`, the bytes behind `header`, holds; undefined when it is not what the CID names. */
export async function chunkIn(header: RecordHeader, payload: Uint8Array): Promise<Uint8Array | undefined> {
  if (payload.length !== header.storedBytes) return undefined;
  const bytes = header.encoding === 'zstd' ? await decompressed(payload, header.plainBytes) : payload;
  return bytes && matches(header.cid, bytes) ? bytes : undefined;
}

/** The payload as it is, when its checksum says that it is what was written; by its hash where there is no checksum. */
export async function encodedIn(header: RecordHeader, payload: Uint8Array): Promise<Encoded | undefined> {
  if (header.crc === undefined) {
    const bytes = await chunkIn(header, payload);
    return bytes && { encoding: 'plain', bytes };
  }
  const right = payload.length === header.storedBytes && crc32(payload) === header.crc;
  return right ? { encoding: header.encoding, bytes: payload } : undefined;
}
