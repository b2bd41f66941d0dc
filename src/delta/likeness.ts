import type { CID } from 'multiformats/cid';
import { chunkKey } from '../content/chunk.ts';
import type { ChunkSet } from '../content/chunk-set.ts';
import type { ChunkSource, GetOptions } from '../content/chunk-source.ts';
import type { Leaf, Manifest } from '../content/manifest.ts';
import { MAX_LIKE_BYTES } from './compression.ts';

/** Older chunks that one chunk is compressed against, at most; a request names each. */
export const MAX_LIKE_CHUNKS = 3;

/** An older version of a wanted file, or a local file with something in common: cut as the wanted one is. */
export interface OldFile {
  /** In file order, without gaps. */
  readonly leaves: readonly Leaf[];
  /** Has the bytes of its chunks, or had them a moment ago. Verifies them. */
  readonly source: ChunkSource;
}

/** Which chunks of an old file the chunks of a wanted one are like. */
export class Likeness {
  /** Places at which both files have the same chunk. */
  readonly ties: number;
  readonly #old: OldFile;
  readonly #set: ChunkSet;
  /** By the wanted set's index: where in the old file the chunk would lie, bytes; NaN for one that both files have. */
  readonly #starts: Float64Array;
  #lost = false;

  private constructor(old: OldFile, set: ChunkSet, starts: Float64Array, ties: number) {
    this.#old = old;
    this.#set = set;
    this.#starts = starts;
    this.ties = ties;
  }

  /**
   * A chunk that both files have ties their offsets together; what lies between two ties in the new file is taken to
   * be like what lies after the first of them in the old one, at the same distance. Without a tie, equal offsets are
   * taken to be alike. A wrong guess costs compression, nothing else.
   */
  static between({ leaves, set }: Manifest, old: OldFile): Likeness {
    const offsets = uniqueOffsets(old.leaves);
    const starts = new Float64Array(set.chunks.length).fill(Number.NaN);
    let shift = 0;
    let ties = 0;
    for (const { cid, offset } of leaves) {
      const tie = offsets.get(chunkKey(cid));
      if (tie !== undefined) {
        shift = tie - offset;
        ties += 1;
        // What came before the first tie lies before it in the old file too.
        if (ties === 1) for (const [index, start] of starts.entries()) starts[index] = start + shift;
        continue;
      }
      const index = set.indexOf(cid);
      if (index !== undefined && Number.isNaN(starts[index])) starts[index] = offset + shift;
    }
    return new Likeness(old, set, starts, ties);
  }

  /** Names of old chunks, in file order; none when nothing is known to be like chunk `index` of the wanted set. */
  of(index: number): readonly CID[] {
    const start = this.#lost ? Number.NaN : (this.#starts[index] ?? Number.NaN);
    const size = this.#set.chunks[index]?.size ?? 0;
    return Number.isNaN(start) ? [] : around(this.#old.leaves, start, start + size).map(({ cid }) => cid);
  }

  /**
   * The bytes that `of` named, one after the other: what sender and receiver both compress against. Undefined when one
   * is gone; from then on nothing is named any more, since what was compressed against it could not be read.
   */
  async read(names: readonly CID[], options: GetOptions): Promise<Uint8Array | undefined> {
    const bytes = await readAll(this.#old.source, names, options);
    this.#lost ||= bytes === undefined;
    return bytes;
  }
}

/** Chunks one after the other; undefined when one is missing, or when they are more than may be compared with. */
export async function readAll(source: ChunkSource, names: readonly CID[], options: GetOptions) {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for (const cid of names) {
    const part = await source.get(cid, options);
    bytes += part?.length ?? 0;
    if (part === undefined || bytes > MAX_LIKE_BYTES) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** Where each chunk lies that the file has once; repeated ones (zeros, mostly) tie nothing. */
function uniqueOffsets(leaves: readonly Leaf[]): Map<string, number> {
  const offsets = new Map<string, number>();
  const repeated = new Set<string>();
  for (const { cid, offset } of leaves) {
    const key = chunkKey(cid);
    if (offsets.has(key)) repeated.add(key);
    offsets.set(key, offset);
  }
  for (const key of repeated) offsets.delete(key);
  return offsets;
}

/** The leaves that overlap the place, as many as are allowed, without repetition. */
function around(leaves: readonly Leaf[], start: number, end: number): Leaf[] {
  const found: Leaf[] = [];
  let bytes = 0;
  for (let i = firstEndingAfter(leaves, start); found.length < MAX_LIKE_CHUNKS; i += 1) {
    const leaf = leaves[i];
    if (leaf === undefined || leaf.offset >= end || bytes + leaf.size > MAX_LIKE_BYTES) break;
    if (found.some(({ cid }) => cid.equals(leaf.cid))) continue;
    found.push(leaf);
    bytes += leaf.size;
  }
  return found;
}

function firstEndingAfter(leaves: readonly Leaf[], offset: number): number {
  let low = 0;
  let high = leaves.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const leaf = leaves[middle] as Leaf;
    if (leaf.offset + leaf.size <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
