import { webcrypto } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { CID } from 'multiformats/cid';
import { create as createDigest } from 'multiformats/hashes/digest';
import { type ChunkRef, chunkCid, RAW, SHA2_256 } from './chunk.ts';
import type { ChunkStore } from './chunk-source.ts';
import { Chunker } from './chunker.ts';
import { type Manifest, manifestOf } from './manifest.ts';
import { layOut } from './unixfs-node.ts';

export interface ImportOptions {
  /** Where to cut. @default new Chunker(DEFAULT_CHUNK_SIZES) */
  readonly chunker?: Chunker;
  readonly signal: AbortSignal;
  /** After each block: bytes that are stored, and the file's size when it is known. */
  readonly onProgress?: (progress: { readonly bytes: number; readonly total: number | undefined }) => void;
}

/** The file is read into these in turn: one is filled while the chunks of the others are hashed and written. */
const BLOCKS = 3;
const BLOCK_BYTES = 4 * 1024 * 1024;

/** Keeps a leaf's place in the file's order until its chunk is hashed. */
const PLACEHOLDER: ChunkRef = { cid: chunkCid(new Uint8Array()), size: 0 };

/**
 * Cuts a file (a path, or its bytes as they come) into chunks, puts them and the nodes of their manifest into `store`,
 * and flushes a store that can be flushed: when this resolves, the artifact is durable. Chunks that are there already
 * are not written again, so an import that was cut short goes on where it was.
 *
 * Cutting runs on this thread (1.5-2 GB/s), hashing (WebCrypto) and writing in libuv's pool beside it. A worker thread
 * did not pay: cutting is the smallest part, and the bytes would have to cross.
 */
export async function importFile(
  source: string | AsyncIterable<Uint8Array>,
  store: ChunkStore & { flush?(): Promise<void> },
  options: ImportOptions,
): Promise<Manifest> {
  await using input = typeof source === 'string' ? await FileInput.open(source) : new StreamInput(source);
  const leaves = await cutInto(input, store, options);
  const nodes = layOut(leaves);
  for (const node of nodes) await store.put(node.cid, node.bytes);
  await store.flush?.();
  return manifestOf(leaves, nodes);
}

async function cutInto(input: Input, store: ChunkStore, options: ImportOptions): Promise<ChunkRef[]> {
  const { chunker = new Chunker(), signal, onProgress } = options;
  const blocks = Array.from({ length: BLOCKS }, () => new Block());
  const leaves: ChunkRef[] = [];
  let tail: Uint8Array = new Uint8Array();
  let bytes = 0;
  const keepAs = async (index: number, piece: Uint8Array<ArrayBuffer>) => {
    leaves[index] = await keep(piece, store);
  };
  try {
    for (let turn = 0, ended = false; !ended; turn++) {
      const block = blocks[turn % BLOCKS] as Block;
      bytes += await block.settle();
      if (bytes > 0) onProgress?.({ bytes, total: input.size });
      signal.throwIfAborted();
      block.bytes.set(tail);
      const filled = tail.length + (await input.fill(block.bytes.subarray(tail.length)));
      ended = filled < block.bytes.length;
      let start = 0;
      while (start < filled) {
        const end = chunker.cut(block.bytes, start, filled);
        if (end === filled && !ended && end - start < chunker.sizes.max) break;
        const piece = block.bytes.subarray(start, end);
        const index = leaves.push(PLACEHOLDER) - 1;
        block.add(piece.length, keepAs(index, piece));
        start = end;
      }
      tail = block.bytes.subarray(start, filled);
    }
    for (const block of blocks) bytes += await block.settle();
    onProgress?.({ bytes, total: input.size });
    return leaves;
  } finally {
    await Promise.all(blocks.map((block) => block.quiet()));
  }
}

async function keep(bytes: Uint8Array<ArrayBuffer>, store: ChunkStore): Promise<ChunkRef> {
  const digest = await webcrypto.subtle.digest('SHA-256', bytes);
  const cid = CID.createV1(RAW, createDigest(SHA2_256, new Uint8Array(digest)));
  await store.put(cid, bytes);
  return { cid, size: bytes.length };
}

/** A buffer, and the chunks inside it that are still being kept. */
class Block {
  readonly bytes = new Uint8Array(BLOCK_BYTES);
  #keeping: Promise<void>[] = [];
  #size = 0;

  add(size: number, kept: Promise<void>): void {
    kept.catch(() => {}); // Seen by `settle`.
    this.#keeping.push(kept);
    this.#size += size;
  }

  /** Waits until the buffer may be used again; returns the bytes of the chunks it had. */
  async settle(): Promise<number> {
    await Promise.all(this.#keeping);
    const size = this.#size;
    this.#keeping = [];
    this.#size = 0;
    return size;
  }

  /** Waits until nobody reads the buffer, however that ends. */
  async quiet(): Promise<void> {
    await Promise.allSettled(this.#keeping);
  }
}

interface Input extends AsyncDisposable {
  /** Bytes in all, when known. */
  readonly size: number | undefined;
  /** Fills `into`; fewer bytes mean that the input has ended. */
  fill(into: Uint8Array): Promise<number>;
}

class FileInput implements Input {
  readonly size: number;
  readonly #file: FileHandle;
  #position = 0;

  private constructor(file: FileHandle, size: number) {
    this.#file = file;
    this.size = size;
  }

  static async open(path: string): Promise<FileInput> {
    const file = await open(path, 'r');
    return new FileInput(file, (await file.stat()).size);
  }

  async fill(into: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < into.length) {
      const { bytesRead } = await this.#file.read(into, filled, into.length - filled, this.#position);
      if (bytesRead === 0) break;
      filled += bytesRead;
      this.#position += bytesRead;
    }
    return filled;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

class StreamInput implements Input {
  readonly size = undefined;
  readonly #pieces: AsyncIterator<Uint8Array>;
  #piece: Uint8Array = new Uint8Array();

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#pieces = source[Symbol.asyncIterator]();
  }

  async fill(into: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < into.length) {
      if (this.#piece.length === 0) {
        const next = await this.#pieces.next();
        if (next.done) break;
        this.#piece = next.value;
      }
      const part = this.#piece.subarray(0, into.length - filled);
      into.set(part, filled);
      this.#piece = this.#piece.subarray(part.length);
      filled += part.length;
    }
    return filled;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pieces.return?.();
  }
}
