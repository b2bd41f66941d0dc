import type { CID } from 'multiformats/cid';
import { type ChunkRef, chunkKey } from './chunk.ts';

/**
 * The unique chunks of one piece of content, in order of first use. The order is the bit order of have-maps, so two
 * nodes that know the same `id` agree on what bit `i` means.
 */
export class ChunkSet {
  readonly id: CID;
  readonly chunks: readonly ChunkRef[];
  readonly #index = new Map<string, number>();

  /** `id` names the content (an artifact's manifest root); repeated chunks in `used` collapse into their first use. */
  constructor(id: CID, used: Iterable<ChunkRef>) {
    const chunks: ChunkRef[] = [];
    for (const chunk of used) {
      const key = chunkKey(chunk.cid);
      if (this.#index.has(key)) continue;
      this.#index.set(key, chunks.length);
      chunks.push(chunk);
    }
    this.id = id;
    this.chunks = chunks;
  }

  /** Bit position of `cid`, or undefined when it is no part of the set. */
  indexOf(cid: CID): number | undefined {
    return this.#index.get(chunkKey(cid));
  }

  /** Plain bytes of all its chunks together: what has to travel once. */
  get bytes(): number {
    return this.chunks.reduce((sum, chunk) => sum + chunk.size, 0);
  }
}
