import assert from 'node:assert/strict';
import { open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { SEGMENT_HEADER_BYTES } from '../../src/store/segment.ts';
import type { Random } from './random.ts';

/**
 * A power loss takes what was written after the last sync: the tail of the segment is cut, or reads as zeros, or has a
 * hole of zeros. `index` loses all of LevelDB besides the tail.
 */
export const POWER_LOSSES = ['truncate', 'zero', 'hole', 'index'] as const;
/** What happens to a store besides the kill; with `kill`, nothing. */
export const LOSSES = ['kill', ...POWER_LOSSES] as const;
export type Loss = (typeof LOSSES)[number];

/** What was taken from a store. */
export interface Lost {
  /** Path of the segment that was being written. */
  readonly file: string;
  /** Bytes of it that were beyond the last sync. */
  readonly unsynced: number;
  /** The bytes `[start, end)` of it are gone. */
  readonly start: number;
  readonly end: number;
}

const PAGE = 4096;

/** Segments of the store in `directory`, oldest first. */
export async function segmentFiles(directory: string): Promise<string[]> {
  const segments = join(directory, 'segments');
  return (await readdir(segments)).sort().map((name) => join(segments, name));
}

/** Does to the store in `directory` what `loss` says. `synced` maps a segment's path to the bytes that were synced. */
export async function lose(
  directory: string,
  loss: Loss,
  synced: ReadonlyMap<string, number>,
  random: Random,
): Promise<Lost> {
  if (loss === 'index') await rm(join(directory, 'index.v1'), { recursive: true });
  const files = await segmentFiles(directory);
  const sizes = await Promise.all(files.map(async (path) => (await stat(path)).size));
  // The next segment may have been made already.
  const file = files[sizes.findLastIndex((bytes) => bytes > SEGMENT_HEADER_BYTES)] ?? files.at(-1);
  assert.ok(file, 'the store has no segment');
  await using handle = await open(file, 'r+');
  const { size } = await handle.stat();
  // A segment's header is synced before its first record, and nothing is said of it.
  const from = synced.get(file) ?? Math.min(size, SEGMENT_HEADER_BYTES);
  const unsynced = size - from;
  if (loss === 'kill' || unsynced === 0) return { file, unsynced, start: size, end: size };
  const start = from + Math.floor(random() * unsynced);
  const end = loss === 'hole' ? Math.min(size, start + PAGE * (1 + Math.floor(random() * 16))) : size;
  if (loss === 'truncate') await handle.truncate(start);
  else await handle.write(Buffer.alloc(end - start), 0, end - start, start);
  return { file, unsynced, start, end };
}
