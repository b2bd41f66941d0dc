import { type FileHandle, open } from 'node:fs/promises';
import type { CID } from 'multiformats/cid';
import { type ChunkRef, chunkKey, matches } from '../content/chunk.ts';
import type { ChunkSource, ChunkStore, GetOptions } from '../content/chunk-source.ts';
import type { Leaf, Manifest } from '../content/manifest.ts';
import { importFile } from '../import/import-file.ts';
import { Likeness } from './likeness.ts';

/** A seed is cut this many bytes at a time, so that a whole disk takes no more memory than this much of it. */
const SLICE_BYTES = 4 * 1024 ** 3;
const READ_BYTES = 1024 * 1024;

/** A path that is neither a file nor a block device, or that cannot be read. */
export class SeedUnusable extends Error {
  readonly code = 'SEED_UNUSABLE';

  constructor(path: string, problem: string, options?: ErrorOptions) {
    super(`seed ${path} ${problem}`, options);
    this.name = 'SeedUnusable';
  }
}

export interface SeedOptions {
  readonly signal: AbortSignal;
  /** Bytes looked through; `total` is absent for a device. */
  readonly onProgress?: (progress: { readonly bytes: number; readonly total?: number }) => void;
  /** The store took this chunk of the wanted set, and had not had it. */
  readonly onChunk?: (chunk: ChunkRef) => void;
  /** Bytes cut at a time. @default 4 GiB */
  readonly sliceBytes?: number;
}

/** A local file or device that was looked through. Stays open, as what other chunks are compressed against. */
export interface Seed extends AsyncDisposable {
  /** What of it is like the chunks that are still missing; undefined when none is. */
  readonly likeness: Likeness | undefined;
}

/**
 * Cuts a file or a block device as artifacts are cut and puts the chunks that `wanted` names into `store`: each is
 * named by the hash of the bytes that were read, so what is put is right whatever the seed is. Stops early when nothing
 * is missing any more. Rejects with `SeedUnusable`, the store's errors and the signal's reason.
 */
export async function openSeed(path: string, wanted: Manifest, store: ChunkStore, options: SeedOptions): Promise<Seed> {
  const { handle, size } = await openPath(path);
  try {
    const sieve = await Sieve.open(wanted, store, options.onChunk);
    const { sliceBytes = SLICE_BYTES, signal, onProgress } = options;
    const total = size === undefined ? {} : { total: size };
    let best: { leaves: readonly Leaf[]; ties: number; at: number } | undefined;
    for (let at = 0; sieve.missing > 0 && (size === undefined || at < size); at += sliceBytes) {
      sieve.ties = 0;
      const { leaves, size: got } = await importFile(slice(handle, at, sliceBytes), sieve, {
        signal,
        onProgress: ({ bytes }) => onProgress?.({ bytes: at + bytes, ...total }),
      });
      if (sieve.ties > (best?.ties ?? -1)) best = { leaves, ties: sieve.ties, at };
      if (got < sliceBytes) break;
    }
    const source = best && new FileSource(handle, best.leaves, best.at);
    return {
      likeness: best && source && Likeness.between(wanted, { leaves: best.leaves, source }),
      [Symbol.asyncDispose]: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** `size` is undefined for a device: the kernel says 0 there. */
async function openPath(path: string): Promise<{ handle: FileHandle; size: number | undefined }> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'r');
  } catch (cause) {
    throw new SeedUnusable(path, `cannot be read: ${(cause as Error).message}`, { cause });
  }
  const stats = await handle.stat();
  if (stats.isFile()) return { handle, size: stats.size };
  if (stats.isBlockDevice()) return { handle, size: undefined };
  await handle.close();
  throw new SeedUnusable(path, 'is neither a file nor a block device');
}

async function* slice(handle: FileHandle, start: number, length: number): AsyncGenerator<Uint8Array> {
  for (let done = 0; done < length; ) {
    const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, length - done));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, start + done);
    if (bytesRead === 0) return;
    done += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** A store that keeps what the wanted set names and lets the rest, and the seed's own manifest, fall through. */
class Sieve implements ChunkStore {
  /** Chunks of the set that the seed has, since this was set to 0. */
  ties = 0;
  readonly #wanted: Manifest;
  readonly #store: ChunkStore;
  readonly #missing: Set<string>;
  readonly #onChunk: ((chunk: ChunkRef) => void) | undefined;

  private constructor(wanted: Manifest, store: ChunkStore, missing: Set<string>, onChunk?: (chunk: ChunkRef) => void) {
    this.#wanted = wanted;
    this.#store = store;
    this.#missing = missing;
    this.#onChunk = onChunk;
  }

  static async open(wanted: Manifest, store: ChunkStore, onChunk?: (chunk: ChunkRef) => void): Promise<Sieve> {
    const missing = new Set<string>();
    for (const { cid } of wanted.set.chunks) if (!(await store.has(cid))) missing.add(chunkKey(cid));
    return new Sieve(wanted, store, missing, onChunk);
  }

  get missing(): number {
    return this.#missing.size;
  }

  /** Nobody needs to prepare a chunk that is not kept. */
  async has(cid: CID): Promise<boolean> {
    return !this.#missing.has(chunkKey(cid));
  }

  async get(): Promise<undefined> {
    return undefined;
  }

  async put(...[cid, bytes, ...form]: Parameters<ChunkStore['put']>): Promise<void> {
    if (this.#wanted.set.indexOf(cid) !== undefined) this.ties += 1;
    if (!this.#missing.delete(chunkKey(cid))) return;
    await this.#store.put(cid, bytes, ...form);
    this.#onChunk?.({ cid, size: bytes.length });
  }
}

/** Chunks read back from where they were found; one that has changed since is a missing one. */
class FileSource implements ChunkSource {
  readonly #handle: FileHandle;
  readonly #leaves: ReadonlyMap<string, Leaf>;
  readonly #start: number;

  constructor(handle: FileHandle, leaves: readonly Leaf[], start: number) {
    this.#handle = handle;
    this.#leaves = new Map(leaves.map((leaf) => [chunkKey(leaf.cid), leaf]));
    this.#start = start;
  }

  async get(cid: CID, { signal }: GetOptions): Promise<Uint8Array | undefined> {
    signal.throwIfAborted();
    const leaf = this.#leaves.get(chunkKey(cid));
    if (leaf === undefined) return undefined;
    const bytes = Buffer.allocUnsafe(leaf.size);
    const { bytesRead } = await this.#handle.read(bytes, 0, leaf.size, this.#start + leaf.offset);
    return bytesRead === leaf.size && matches(cid, bytes) ? bytes : undefined;
  }
}
