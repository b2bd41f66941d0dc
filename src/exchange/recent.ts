import type { CID } from 'multiformats/cid';
import type { BufferPool } from '../content/buffer-pool.ts';
import { chunkKey } from '../content/chunk.ts';

interface Kept {
  readonly bytes: Uint8Array;
  /** Lanes that are sending it. */
  uses: number;
  evicted: boolean;
}

/** A chunk's bytes for as long as `release` was not called. */
export interface Borrowed {
  readonly bytes: Uint8Array;
  release(): void;
}

/**
 * Chunks that arrived lately and are in the store, still in memory: neighbours ask for them moments later, and get
 * them without a read and a check of what was read. Bounded; the buffers go back to the pool they came from.
 */
export class RecentChunks {
  readonly #pool: BufferPool;
  readonly #limit: number;
  /** In order of use, oldest first. */
  readonly #chunks = new Map<string, Kept>();
  #bytes = 0;

  /** @param limit bytes of buffers. @default 24 MiB */
  constructor(pool: BufferPool, limit = 24 * 1024 * 1024) {
    this.#pool = pool;
    this.#limit = limit;
  }

  /** Takes the buffer over, which nobody may change any more. */
  keep(cid: CID, bytes: Uint8Array): void {
    const key = chunkKey(cid);
    if (this.#chunks.has(key)) {
      this.#pool.give(bytes);
      return;
    }
    this.#chunks.set(key, { bytes, uses: 0, evicted: false });
    this.#bytes += bytes.buffer.byteLength;
    for (const [oldest, chunk] of this.#chunks) {
      if (this.#bytes <= this.#limit) return;
      this.#chunks.delete(oldest);
      this.#bytes -= chunk.bytes.buffer.byteLength;
      chunk.evicted = true;
      this.#giveBack(chunk);
    }
  }

  borrow(cid: CID): Borrowed | undefined {
    const key = chunkKey(cid);
    const chunk = this.#chunks.get(key);
    if (chunk === undefined) return undefined;
    this.#chunks.delete(key);
    this.#chunks.set(key, chunk);
    chunk.uses += 1;
    return {
      bytes: chunk.bytes,
      release: () => {
        chunk.uses -= 1;
        this.#giveBack(chunk);
      },
    };
  }

  #giveBack({ bytes, uses, evicted }: Kept): void {
    if (evicted && uses === 0) this.#pool.give(bytes);
  }
}
