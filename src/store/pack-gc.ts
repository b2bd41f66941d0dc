import type { CID } from 'multiformats/cid';
import { chunkKey } from '../content/chunk.ts';
import { ChunkSet } from '../content/chunk-set.ts';
import type { Log } from '../observe/log.ts';
import { chooseCompaction, chooseEvictions, markArtifact } from './gc-policy.ts';
import type { Entry, PackIndex } from './pack-index.ts';
import type { PackWriter, StoredChunk } from './pack-writer.ts';
import type { Pin } from './pins.ts';
import type { Segment } from './segment.ts';
import type { SegmentReader } from './segment-reader.ts';

export interface Watermarks {
  /** GC starts when the segment files hold more than this… */
  readonly highBytes: number;
  /** …and evicts unpinned chunks until they can be packed into this. */
  readonly lowBytes: number;
}

export interface GcReport {
  readonly evictedChunks: number;
  readonly evictedBytes: number;
  /** Bytes by which the segment files shrank. */
  readonly freedBytes: number;
}

/** The parts of a store that its GC works on. */
export interface GcDeps {
  readonly log: Log;
  readonly index: PackIndex;
  readonly segments: Map<number, Segment>;
  readonly writer: PackWriter;
  readonly reader: SegmentReader;
  /** What is pinned, and the sets that are in use: asked again right before the choice. */
  readonly pins: () => readonly Pin[];
  readonly held: () => readonly ChunkSet[];
  /** Told at the moment at which they can no longer be read. */
  readonly onEvict: (cids: readonly CID[]) => void;
  /** Entries used in this second of the store's clock, or later, are in use. */
  readonly usedSince: number;
  /** The checked bytes of a chunk; a damaged one is dropped and answered with undefined. */
  readonly read: (cid: CID, entry: Entry, signal: AbortSignal) => Promise<Uint8Array | undefined>;
  /** The chunk as it is kept, checked by its checksum; likewise. */
  readonly record: (cid: CID, entry: Entry, signal: AbortSignal) => Promise<StoredChunk | undefined>;
}

/** Records that a compaction reads ahead of the writer. */
const COPY_WIDTH = 16;

/**
 * Evicts unpinned, unused chunks until `lowBytes` are left, then packs the rest: segment by segment, what is live is
 * appended to the active segment, synced and indexed there, and only then is the old file removed. So a crash leaves
 * both copies or one, never none, and the spare space is at most one segment. What it evicted may come back after a
 * crash, since segments still hold it; that is harmless.
 */
export async function collectGarbage(deps: GcDeps, lowBytes: number, signal: AbortSignal): Promise<GcReport> {
  const before = diskBytes(deps.segments);
  const marks = new Marks(deps);
  // What is pinned or held while others are looked at counts as well: nothing comes between the last look and the choice.
  for (let fresh = marks.fresh(); fresh.length > 0; fresh = marks.fresh()) {
    for (const each of fresh) await marks.add(each, signal);
  }
  const inUse = (key: string, { used }: Entry) => marks.keep.has(key) || used >= deps.usedSince;
  const evicted = chooseEvictions(deps.index.entries, liveBytes(deps.segments) - lowBytes, inUse);
  let evictedBytes = 0;
  const cids: CID[] = [];
  for (const key of evicted) {
    const entry = deps.index.entries.get(key);
    if (!entry) continue;
    evictedBytes += entry.size;
    cids.push(deps.index.cid(key, entry));
    deps.index.forget(key, deps.segments.get(entry.segment));
  }
  deps.onEvict(cids);
  await deps.index.persist(evicted);
  await compact(deps, lowBytes, signal);
  const freedBytes = before - diskBytes(deps.segments);
  deps.log.info('garbage collected', { evictedChunks: evicted.length, evictedBytes, freedBytes });
  return { evictedChunks: evicted.length, evictedBytes, freedBytes };
}

/** The keys of what is pinned or held. */
class Marks {
  readonly keep = new Set<string>();
  readonly #deps: GcDeps;
  readonly #seen = new Set<string | ChunkSet>();

  constructor(deps: GcDeps) {
    this.#deps = deps;
  }

  /** Pins and sets that have not been asked for before. */
  fresh(): (Pin | ChunkSet)[] {
    const found = [...this.#deps.pins(), ...this.#deps.held()].filter((each) => !this.#seen.has(identity(each)));
    for (const each of found) this.#seen.add(identity(each));
    return found;
  }

  async add(each: Pin | ChunkSet, signal: AbortSignal): Promise<void> {
    const { index, segments, read, log } = this.#deps;
    const get = async (cid: CID) => {
      const entry = index.get(cid);
      return entry && segments.has(entry.segment) ? await read(cid, entry, signal) : undefined;
    };
    if (each instanceof ChunkSet) {
      for (const chunk of each.chunks) this.keep.add(chunkKey(chunk.cid));
      await markArtifact(each.id, get, this.keep);
    } else if (!(await markArtifact(each.cid, get, this.keep))) {
      const cid = each.cid.toString();
      log.warn('pinned manifest is not complete: only what it names so far is kept', { pin: each.name, cid });
    }
  }
}

function identity(each: Pin | ChunkSet): string | ChunkSet {
  return each instanceof ChunkSet ? each : `${each.name} ${each.cid}`;
}

async function compact(deps: GcDeps, lowBytes: number, signal: AbortSignal): Promise<void> {
  // Each segment once: one whose records cannot be moved must not be tried for ever.
  const tried = new Set<Segment>();
  while (diskBytes(deps.segments) > lowBytes) {
    signal.throwIfAborted();
    const untried = [...deps.segments.values()].filter((segment) => !tried.has(segment));
    const segment = chooseCompaction(untried);
    if (!segment) return;
    tried.add(segment);
    if (segment === deps.writer.segment) await deps.writer.rotate();
    await empty(segment, deps, signal);
  }
}

async function empty(segment: Segment, deps: GcDeps, signal: AbortSignal): Promise<void> {
  const { index, writer, reader, segments, record } = deps;
  const live = [...index.entries].filter(([, entry]) => entry.segment === segment.id);
  live.sort(([, a], [, b]) => a.offset - b.offset);
  const move = async ([key, entry]: [string, Entry]) => {
    if (index.entries.get(key) !== entry) return;
    const chunk = await record(index.cid(key, entry), entry, signal);
    if (chunk && index.entries.get(key) === entry) await writer.append(chunk);
    chunk?.stored.release?.();
  };
  for (let i = 0; i < live.length; i += COPY_WIDTH) {
    signal.throwIfAborted();
    await Promise.all(live.slice(i, i + COPY_WIDTH).map(move));
  }
  await writer.flush();
  if (segment.live > 0) return;
  segments.delete(segment.id);
  await index.dropCheckpoint(segment.id);
  await reader.retire(segment);
}

function diskBytes(segments: Map<number, Segment>): number {
  return [...segments.values()].reduce((sum, segment) => sum + segment.size, 0);
}

function liveBytes(segments: Map<number, Segment>): number {
  return [...segments.values()].reduce((sum, segment) => sum + segment.live, 0);
}
