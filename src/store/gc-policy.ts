import type { CID } from 'multiformats/cid';
import { chunkKey, DAG_PB, RAW } from '../content/chunk.ts';
import { MANIFEST_LIMITS } from '../content/manifest.ts';
import { decodeNode } from '../content/unixfs-node.ts';
import type { Entry } from './pack-index.ts';
import { SEGMENT_HEADER_BYTES, type Segment } from './segment.ts';

/** A segment is worth compacting when at least this share of it is dead. */
const WORTH_COMPACTING = 0.1;

/**
 * Which chunks to evict so that `excess` bytes of records go: least recently used first, to the second; of equal ones,
 * the oldest in the log first. Those that `keep` holds stay.
 */
export function chooseEvictions(
  entries: ReadonlyMap<string, Entry>,
  excess: number,
  keep: (key: string, entry: Entry) => boolean,
): string[] {
  if (excess <= 0) return [];
  const candidates = [...entries].filter(([key, entry]) => !keep(key, entry));
  candidates.sort(([, a], [, b]) => a.used - b.used || a.segment - b.segment || a.offset - b.offset);
  const chosen: string[] = [];
  let freed = 0;
  for (const [key, entry] of candidates) {
    if (freed >= excess) break;
    freed += entry.headerBytes + entry.size;
    chosen.push(key);
  }
  return chosen;
}

/** The segment whose compaction frees most for least copying; undefined when none is worth it. */
export function chooseCompaction(segments: Iterable<Segment>): Segment | undefined {
  let best: Segment | undefined;
  for (const segment of segments) {
    if (1 - share(segment) < WORTH_COMPACTING) continue;
    if (!best || share(segment) < share(best)) best = segment;
  }
  return best;
}

/** Live part of the records; an empty segment has nothing to give. */
function share(segment: Segment): number {
  return segment.size > SEGMENT_HEADER_BYTES ? segment.live / (segment.size - SEGMENT_HEADER_BYTES) : 1;
}

/**
 * Adds to `keep` the keys of `root`'s manifest and chunks, as far as the nodes can be had from `get` (those of an
 * artifact that is still arriving may not be here). Returns false when a node was missing or is no manifest.
 */
export async function markArtifact(
  root: CID,
  get: (cid: CID) => Promise<Uint8Array | undefined>,
  keep: Set<string>,
): Promise<boolean> {
  let whole = true;
  let visits = 0;
  const stack = [root];
  for (let cid = stack.pop(); cid; cid = stack.pop()) {
    keep.add(chunkKey(cid));
    if (cid.code !== DAG_PB) continue;
    const bytes = ++visits <= MANIFEST_LIMITS.nodes ? await get(cid) : undefined;
    if (!bytes) {
      whole = false;
      continue;
    }
    try {
      for (const child of decodeNode(cid, bytes)) {
        if (child.cid.code === RAW) keep.add(chunkKey(child.cid));
        else if (!keep.has(chunkKey(child.cid))) stack.push(child.cid);
      }
    } catch {
      whole = false; // Not a manifest: the block itself stays, it was pinned.
    }
  }
  return whole;
}
