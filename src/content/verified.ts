import type { CID } from 'multiformats/cid';
import { matches } from './chunk.ts';
import { type ChunkSource, CorruptChunk, type GetOptions } from './chunk-source.ts';

/** Rejects with `CorruptChunk`, naming `from` (a URL, a peer), when the source's bytes are not what the CID names. */
export function verified(source: ChunkSource, from: string): ChunkSource {
  return {
    async get(cid: CID, { signal }: GetOptions) {
      const bytes = await source.get(cid, { signal });
      if (bytes && !matches(cid, bytes)) throw new CorruptChunk(cid, from);
      return bytes;
    },
  };
}
