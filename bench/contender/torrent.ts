import { createHash } from 'node:crypto';
import { open, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';

type Bencoded = number | string | Uint8Array | readonly Bencoded[] | { readonly [key: string]: Bencoded };

/** BEP 3, "bencoding". Keys of a dictionary in the order of their bytes. */
export function bencode(value: Bencoded): Buffer {
  if (typeof value === 'number') return Buffer.from(`i${value}e`);
  if (typeof value === 'string') return bencode(Buffer.from(value));
  if (value instanceof Uint8Array) return Buffer.concat([Buffer.from(`${value.length}:`), value]);
  const parts: Bencoded[] = isList(value)
    ? [...value]
    : Object.keys(value)
        .sort()
        .flatMap((key) => [key, value[key] ?? '']);
  return Buffer.concat([Buffer.from(isList(value) ? 'l' : 'd'), ...parts.map(bencode), Buffer.from('e')]);
}

function isList(value: Bencoded): value is readonly Bencoded[] {
  return Array.isArray(value);
}

export interface TorrentPlan {
  /** The payload. Its file name becomes the torrent's. */
  readonly file: string;
  /** Bytes of a piece, a power of two. */
  readonly pieceBytes: number;
  /** Announce URL. Without one, whoever adds the torrent must name the peers. */
  readonly tracker?: string;
}

/** Writes a single-file metainfo file (BEP 3, version 1) to `path`. */
export async function writeTorrent(path: string, { file, pieceBytes, tracker }: TorrentPlan): Promise<void> {
  const pieces: Buffer[] = [];
  let length = 0;
  await using source = await open(file);
  const buffer = Buffer.allocUnsafe(pieceBytes);
  for (;;) {
    const { bytesRead } = await source.read(buffer, 0, pieceBytes, length);
    if (bytesRead === 0) break;
    length += bytesRead;
    pieces.push(createHash('sha1').update(buffer.subarray(0, bytesRead)).digest());
  }
  const info = {
    name: basename(file),
    length,
    'piece length': pieceBytes,
    pieces: Buffer.concat(pieces),
  };
  await writeFile(path, bencode({ info, ...(tracker !== undefined && { announce: tracker }) }));
}
