import { CID } from 'multiformats/cid';
import { create as createDigest } from 'multiformats/hashes/digest';
import { type ChunkRef, chunkKey, RAW, SHA2_256 } from '../content/chunk.ts';
import type { ChunkStore, Encoded } from '../content/chunk-source.ts';
import { Chunker, type ChunkSizes } from '../content/chunker.ts';
import { type Manifest, manifestOf } from '../content/manifest.ts';
import { layOut } from '../content/unixfs-node.ts';
import { type Cutters, type FilePart, OwnThread } from './cutters.ts';
import { FileInput, type Input, StreamInput } from './input.ts';
import { Cut, MEMORY_BYTES, type RegionMemory, ROOM_BYTES, regionAt } from './region.ts';
import { WORKERS, WorkerThreads } from './worker-threads.ts';

export interface ImportOptions {
  /** Where to cut. @default new Chunker(DEFAULT_CHUNK_SIZES) */
  readonly chunker?: Chunker;
  /** Whether the store is given chunks as zstd frames where that pays. @default true */
  readonly compress?: boolean;
  /** From how many bytes on other threads cut and hash. @default 32 MiB */
  readonly ownThreadBytes?: number;
  readonly signal: AbortSignal;
  /** After each region: bytes that are stored, and the file's size when it is known. */
  readonly onProgress?: (progress: { readonly bytes: number; readonly total: number | undefined }) => void;
}

/** Workers take 60 ms to start, and this thread as long to cut this much. */
const OWN_THREAD_BYTES = 32 * 1024 * 1024;

/**
 * Regions in memory: while some are cut, the chunks of others are written. Of 2, 3, 4 and 6 a worker, 4 keeps two cores
 * busy (1.3 s for 1 GiB) and 6 does no better. The bound is 90 MiB.
 */
const REGIONS = Math.min(4 * WORKERS, 10);

/**
 * Cuts a file (a path, or its bytes as they come) into chunks, puts them and the nodes of their manifest into `store`,
 * and flushes a store that can be flushed: when this resolves, the artifact is durable. Chunks that are there already
 * are not written again, so an import that was cut short goes on where it was.
 *
 * Where a chunk is cut follows from where it starts, and so from all that comes before it. Yet two cuttings of the same
 * bytes that start at different places soon agree on a place, and from there on they are one (2.0 to 2.6 chunks later
 * on average here, 11 at most; never inside a long run of zeros). So worker threads read, cut and hash regions of a file
 * as if a chunk started with each, and what lies before the first agreement is cut again.
 */
export async function importFile(
  source: string | AsyncIterable<Uint8Array>,
  store: ChunkStore & { flush?(): Promise<void> },
  options: ImportOptions,
): Promise<Manifest> {
  await using input = typeof source === 'string' ? await FileInput.open(source) : new StreamInput(source);
  await using task = new Import(input, store, options);
  const leaves = await task.run();
  const nodes = layOut(leaves);
  for (const node of nodes) await store.put(node.cid, node.bytes);
  await store.flush?.();
  return manifestOf(leaves, nodes);
}

/** A part of the memory, for one region after the other. */
interface Slot {
  readonly memory: RegionMemory;
  /** Settles when its chunks are stored. */
  kept: Promise<void>;
}

class Import implements AsyncDisposable {
  readonly #input: Input;
  readonly #store: ChunkStore;
  readonly #options: ImportOptions;
  readonly #sizes: ChunkSizes;
  readonly #slots: Slot[] = [];
  readonly #ownThread: Cutters;
  #workers: Cutters | undefined;
  readonly #leaves: ChunkRef[] = [];
  /** By region: bytes of it that this thread has brought into memory, and its cut if a chunk starts with it. */
  readonly #fills: Promise<number>[] = [];
  readonly #cuts: Promise<Cut>[] = [];
  #stored = 0;

  constructor(input: Input, store: ChunkStore, options: ImportOptions) {
    this.#input = input;
    this.#store = store;
    this.#options = options;
    this.#sizes = (options.chunker ?? new Chunker()).sizes;
    this.#ownThread = new OwnThread(this.#sizes);
  }

  async run(): Promise<ChunkRef[]> {
    const { signal, onProgress } = this.#options;
    const { size = Number.POSITIVE_INFINITY } = this.#input;
    for (let region = 0, start = 0; ; region++) {
      const { base, bytes } = regionAt(region);
      while (this.#cuts.length <= region || this.#isAhead(region, size)) this.#begin(this.#cuts.length);
      const guess = await (this.#cuts[region] as Promise<Cut>);
      signal.throwIfAborted();
      const cut = await this.#correct(region, guess, start - base);
      this.#keep(region, cut);
      if (cut.end < bytes) break;
      start = base + cut.end;
    }
    await Promise.all(this.#slots.map(({ kept }) => kept));
    onProgress?.({ bytes: this.#stored, total: this.#input.size });
    return this.#leaves;
  }

  #isAhead(region: number, size: number): boolean {
    return this.#cuts.length < region + REGIONS && regionAt(this.#cuts.length).base < size;
  }

  /** Reads and cuts `region` as if a chunk started with it, as soon as its slot is free. */
  #begin(region: number): void {
    const before = this.#fills[region - 1];
    const slot = this.#slotOf(region);
    const filled = Promise.all([before, slot.kept]).then(([last]) => this.#fill(region, slot, last));
    const cut = filled.then((bytes) =>
      this.#cuttersOf(region).cut(
        { memory: slot.memory, start: 0, end: regionAt(region).bytes, filled: bytes, known: new Uint32Array() },
        this.#partOf(region),
      ),
    );
    for (const promise of [filled, cut]) promise.catch(() => {}); // Seen when its turn comes.
    this.#fills[region] = filled;
    this.#cuts[region] = cut;
  }

  /** Brings the region's bytes into memory, unless its cutter reads them; `before` is how many the last region had. */
  async #fill(region: number, { memory }: Slot, before = 0): Promise<number> {
    if (this.#partOf(region)) return 0;
    const bytes = new Uint8Array(memory, 0, this.#roomOf(region));
    if (region === 0) return await this.#input.fill(bytes);
    const last = new Uint8Array(this.#slotOf(region - 1).memory, 0, before);
    const tail = last.subarray(regionAt(region - 1).bytes);
    bytes.set(tail);
    if (before < this.#roomOf(region - 1)) return tail.length;
    return tail.length + (await this.#input.fill(bytes.subarray(tail.length)));
  }

  /** Bytes of a region and of a chunk that starts in it. */
  #roomOf(region: number): number {
    return regionAt(region).bytes + this.#sizes.max;
  }

  /** The region's chunks when the first one starts at `start`. */
  async #correct(region: number, guess: Cut, start: number): Promise<Cut> {
    const known = guess.starts();
    let begin = new Cut({ start, end: start, filled: guess.filled });
    if (!known.includes(start)) {
      const { memory } = this.#slotOf(region);
      const task = { memory, start, end: regionAt(region).bytes, filled: guess.filled, known };
      begin = await this.#cuttersOf(region).cut(task, this.#partOf(region));
    }
    const met = known.indexOf(begin.end);
    return guess.after(begin, met < 0 ? guess.count : met);
  }

  #keep(region: number, cut: Cut): void {
    const slot = this.#slotOf(region);
    const leaves: ChunkRef[] = [];
    for (let i = 0; i < cut.count; i++) {
      const cid = CID.createV1(RAW, createDigest(SHA2_256, cut.digestOf(i)));
      leaves.push({ cid, size: cut.endOf(i) - cut.startOf(i) });
    }
    for (const leaf of leaves) this.#leaves.push(leaf);
    slot.kept = this.#put(region, slot, cut, leaves);
    slot.kept.catch(() => {}); // Seen when the slot is used again, or at the end.
  }

  async #put(region: number, { memory }: Slot, cut: Cut, leaves: readonly ChunkRef[]): Promise<void> {
    const { compress = true, onProgress } = this.#options;
    const frames = compress ? await this.#pack(region, memory, cut, leaves) : new Map<number, Encoded>();
    await Promise.all(
      leaves.map(({ cid, size }, i) => {
        const bytes = new Uint8Array(memory, cut.startOf(i), size);
        return this.#store.put(cid, bytes, frames.get(i) ?? { encoding: 'plain', bytes, crc32: cut.crcOf(i) });
      }),
    );
    this.#stored += leaves.reduce((sum, { size }) => sum + size, 0);
    onProgress?.({ bytes: this.#stored, total: this.#input.size });
  }

  /** Frames, by index, of those chunks for which that pays and that the store has not got. */
  async #pack(
    region: number,
    memory: RegionMemory,
    cut: Cut,
    leaves: readonly ChunkRef[],
  ): Promise<Map<number, Encoded>> {
    const wanted = new Map<string, number>();
    for (const [i, { cid }] of leaves.entries()) {
      if (cut.isCompressible(i) && !wanted.has(chunkKey(cid)) && !(await this.#store.has(cid)))
        wanted.set(chunkKey(cid), i);
    }
    const frames = new Map<number, Encoded>();
    if (wanted.size === 0) return frames;
    const indexes = [...wanted.values()];
    const chunks = Uint32Array.from(indexes.flatMap((i) => [cut.startOf(i), cut.endOf(i)]));
    const packed = await this.#cuttersOf(region).pack({ memory, chunks, frames: ROOM_BYTES });
    for (const [n, i] of indexes.entries()) {
      const [start, end, crc] = packed.subarray(3 * n, 3 * n + 3) as unknown as [number, number, number];
      if (end > 0) frames.set(i, { encoding: 'zstd', bytes: new Uint8Array(memory, start, end - start), crc32: crc });
    }
    return frames;
  }

  #slotOf(region: number): Slot {
    const at = region % REGIONS;
    this.#slots[at] ??= { memory: new SharedArrayBuffer(MEMORY_BYTES), kept: Promise.resolve() };
    return this.#slots[at];
  }

  #cuttersOf(region: number): Cutters {
    if (!this.#isForWorkers(region)) return this.#ownThread;
    this.#workers ??= new WorkerThreads(this.#sizes);
    return this.#workers;
  }

  #isForWorkers(region: number): boolean {
    return (this.#input.size ?? regionAt(region).base) >= (this.#options.ownThreadBytes ?? OWN_THREAD_BYTES);
  }

  /** Where a worker reads the region itself. */
  #partOf(region: number): FilePart | undefined {
    const { descriptor } = this.#input;
    if (descriptor === undefined || !this.#isForWorkers(region)) return undefined;
    return { descriptor, position: regionAt(region).base };
  }

  /** When it ends early: nobody reads or writes the memory or the file any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#workers?.[Symbol.asyncDispose]();
    await Promise.allSettled(this.#cuts);
    await Promise.allSettled(this.#slots.map(({ kept }) => kept));
  }
}
