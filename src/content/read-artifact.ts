import { type ChunkSource, CorruptChunk } from './chunk-source.ts';
import { type Leaf, type Manifest, MissingChunk } from './manifest.ts';

export interface ReadOptions {
  /** First byte. @default 0 */
  readonly start?: number;
  /** The byte after the last. @default the artifact's size */
  readonly end?: number;
  readonly signal: AbortSignal;
  /** Bytes of chunks that are asked for ahead of the consumer (at least one chunk is). @default 4 MiB */
  readonly window?: number;
}

const WINDOW = 4 * 1024 * 1024;

/**
 * The bytes `[start, end)` of an artifact, in order, as pieces of its chunks. A chunk that is still on its way is
 * waited for; what was asked for ahead is given up when the consumer leaves. Rejects with `RangeError` for a range
 * outside the file, `MissingChunk` when the source has not got one, and with what the source rejects with.
 */
export async function* readArtifact(
  manifest: Manifest,
  source: ChunkSource,
  { start = 0, end = manifest.size, signal, window = WINDOW }: ReadOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (!(start >= 0 && start <= end && end <= manifest.size)) {
    throw new RangeError(`bytes ${start} to ${end} are not inside the ${manifest.size} bytes of ${manifest.cid}`);
  }
  if (start === end) return;
  const left = new AbortController();
  const options = { signal: AbortSignal.any([signal, left.signal]) };
  const ahead: { leaf: Leaf; bytes: Promise<Uint8Array> }[] = [];
  let asked = 0;
  let next = leafAt(manifest.leaves, start);
  const ask = () => {
    for (let leaf = manifest.leaves[next]; leaf && leaf.offset < end; leaf = manifest.leaves[++next]) {
      if (ahead.length > 0 && asked + leaf.size > window) return;
      const bytes = fetchLeaf(leaf, manifest, source, options);
      bytes.catch(() => {}); // Seen when its turn comes, which an earlier failure may prevent.
      ahead.push({ leaf, bytes });
      asked += leaf.size;
    }
  };
  try {
    for (ask(); ahead.length > 0; ask()) {
      signal.throwIfAborted();
      const { leaf, bytes } = ahead[0] as (typeof ahead)[number];
      const piece = await bytes;
      yield piece.subarray(Math.max(0, start - leaf.offset), Math.min(leaf.size, end - leaf.offset));
      // Counted until the consumer comes back for more: a slow one holds at most the window.
      ahead.shift();
      asked -= leaf.size;
    }
  } finally {
    left.abort(new DOMException('the reader left', 'AbortError'));
  }
}

async function fetchLeaf(leaf: Leaf, manifest: Manifest, source: ChunkSource, options: { signal: AbortSignal }) {
  const bytes = await source.get(leaf.cid, options);
  if (!bytes) throw new MissingChunk(leaf.cid, `byte ${leaf.offset} of ${manifest.cid}`);
  // The bytes match their CID; then it is the manifest that lies about their number.
  if (bytes.length !== leaf.size) throw new CorruptChunk(leaf.cid, `a manifest that gives it ${leaf.size} bytes`);
  return bytes;
}

/** Index of the leaf that holds byte `offset`. */
function leafAt(leaves: readonly Leaf[], offset: number): number {
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
