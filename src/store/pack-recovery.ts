import { type FileHandle, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { chunkKey } from '../content/chunk.ts';
import type { Log } from '../observe/log.ts';
import { NEVER } from './last-uses.ts';
import type { PackIndex } from './pack-index.ts';
import { SEGMENT_HEADER_BYTES, Segment, scanRecords } from './segment.ts';

/**
 * Brings index and segments together after any end of the last run. What the index says counts up to each segment's
 * checkpoint; what is beyond is read from the segment, hash by hash, and a tail without a right record is cut off.
 * Without an index, that is the rebuild: every segment is read whole.
 */
export async function recoverSegments(directory: string, index: PackIndex, log: Log): Promise<Map<number, Segment>> {
  const segments = await loadSegments(directory, log);
  const trusted = new Set<number>();
  for (const segment of segments.values()) {
    const checkpoint = index.checkpoints.get(segment.id);
    if (checkpoint?.identity !== segment.identity) continue;
    if (checkpoint.bytes <= segment.size) trusted.add(segment.id);
    else
      log.error('segment lost bytes that were synced', {
        segment: segment.path,
        expected: checkpoint.bytes,
        bytes: segment.size,
      });
  }
  await dropUntrusted(index, segments, trusted);
  const last = Math.max(...segments.keys());
  for (const segment of segments.values()) {
    const from = trusted.has(segment.id) ? (index.checkpoints.get(segment.id)?.bytes ?? 0) : SEGMENT_HEADER_BYTES;
    if (from < segment.size || !trusted.has(segment.id)) await readTail(segment, from, segment.id === last, index, log);
  }
  return segments;
}

async function loadSegments(directory: string, log: Log): Promise<Map<number, Segment>> {
  const segments = new Map<number, Segment>();
  for (const name of (await readdir(directory)).filter(Segment.isName).sort()) {
    const path = join(directory, name);
    const segment = (await Segment.load(path)) ?? (await Segment.repair(path));
    if (segment) segments.set(segment.id, segment);
    else {
      // Killed between making the file and writing its header: nothing was ever in it.
      log.info('empty segment removed', { segment: path });
      await rm(path);
    }
  }
  return segments;
}

/** Forgets what no trusted checkpoint vouches for, and counts the live bytes of the rest. */
async function dropUntrusted(index: PackIndex, segments: Map<number, Segment>, trusted: Set<number>): Promise<void> {
  const dropped: string[] = [];
  for (const [key, entry] of index.entries) {
    const end = entry.offset + entry.headerBytes + entry.size;
    const segment = segments.get(entry.segment);
    if (segment && trusted.has(segment.id) && end <= (index.checkpoints.get(segment.id)?.bytes ?? 0)) {
      segment.live += entry.headerBytes + entry.size;
      continue;
    }
    dropped.push(key);
  }
  for (const key of dropped) index.forget(key, undefined);
  await index.persist(dropped);
  for (const id of [...index.checkpoints.keys()]) if (!trusted.has(id)) await index.dropCheckpoint(id);
}

async function readTail(segment: Segment, from: number, isLast: boolean, index: PackIndex, log: Log): Promise<void> {
  await using file: FileHandle = await open(segment.path, 'r+');
  const found: string[] = [];
  let end = from;
  for await (const place of scanRecords(file, from)) {
    end = place.offset + place.headerBytes + place.storedBytes;
    if (index.get(place.cid)) continue;
    index.add(place.cid, place, segment, NEVER);
    found.push(chunkKey(place.cid));
  }
  const cut = segment.size - end;
  if (cut > 0 && isLast) {
    await file.truncate(end);
    segment.size = end;
  }
  await file.sync();
  await index.persist(found, { segment, bytes: segment.size });
  log.info('segment recovered', { segment: segment.path, from, chunks: found.length, cut: isLast ? cut : 0 });
}
