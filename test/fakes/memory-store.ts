import type { CID } from 'multiformats/cid';
import { chunkKey } from '../../src/content/chunk.ts';
import type { ChunkStore, GetOptions } from '../../src/content/chunk-source.ts';

/** A store in memory; `asked` lists what was asked of it, in order. */
export class MemoryStore implements ChunkStore {
  readonly chunks = new Map<string, Uint8Array>();
  readonly asked: CID[] = [];

  async has(cid: CID): Promise<boolean> {
    return this.chunks.has(chunkKey(cid));
  }

  async get(cid: CID, { signal }: GetOptions): Promise<Uint8Array | undefined> {
    signal.throwIfAborted();
    this.asked.push(cid);
    return this.chunks.get(chunkKey(cid));
  }

  async put(cid: CID, bytes: Uint8Array): Promise<void> {
    this.chunks.set(chunkKey(cid), Uint8Array.from(bytes));
  }
}
