import type { CID } from 'multiformats/cid';
import type { ChunkSource, ChunkStore, GetOptions } from './chunk-source.ts';

export interface CachedOptions {
  /** The chunk was had, and is returned, but the store could not keep it (its disk may be full). */
  readonly onStoreFailure?: (error: unknown, cid: CID) => void;
}

/** Asks `store` first, and keeps what `source` gives. `source` must be one that verifies. */
export function cached(store: ChunkStore, source: ChunkSource, options: CachedOptions = {}): ChunkSource {
  return {
    async get(cid: CID, { signal }: GetOptions) {
      const kept = await store.get(cid, { signal });
      if (kept) return kept;
      const bytes = await source.get(cid, { signal });
      if (bytes) {
        await store.put(cid, bytes).catch((error) => {
          if (!options.onStoreFailure) throw error;
          options.onStoreFailure(error, cid);
        });
      }
      return bytes;
    },
  };
}
