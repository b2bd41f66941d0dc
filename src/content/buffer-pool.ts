/** The smallest buffer kept, bytes; sizes are this times a power of two. */
const SMALLEST = 64 * 1024;

/**
 * Buffers for incoming chunks, used again once a chunk is in the store. A fresh one per chunk makes the collector run
 * for memory that is not even in its heap: at full speed that was half of all CPU time.
 */
export class BufferPool {
  readonly #free = new Map<number, ArrayBuffer[]>();
  readonly #limit: number;
  #kept = 0;

  /** @param limit bytes kept for later. @default 24 MiB */
  constructor(limit = 24 * 1024 * 1024) {
    this.#limit = limit;
  }

  /** `length` bytes of anything. */
  take(length: number): Uint8Array {
    const size = sizeFor(length);
    const buffer = this.#free.get(size)?.pop();
    if (buffer === undefined) return new Uint8Array(Buffer.allocUnsafeSlow(size).buffer, 0, length);
    this.#kept -= size;
    return new Uint8Array(buffer, 0, length);
  }

  /** The caller has no use for it any more, and nobody else has it. Only what `take` returned. */
  give(bytes: Uint8Array): void {
    const { buffer } = bytes;
    const size = buffer.byteLength;
    if (!(buffer instanceof ArrayBuffer) || size !== sizeFor(size) || this.#kept + size > this.#limit) return;
    const free = this.#free.get(size) ?? [];
    this.#free.set(size, free);
    free.push(buffer);
    this.#kept += size;
  }
}

function sizeFor(length: number): number {
  let size = SMALLEST;
  while (size < length) size *= 2;
  return size;
}
