import { open } from 'node:fs/promises';
import type { CID } from 'multiformats/cid';
import { SEGMENT_HEADER_BYTES, scanRecords } from '../../src/store/segment.ts';
import { type Lost, segmentFiles } from './loss.ts';

/** A record on disk that is complete and matches its hash. */
export interface WholeRecord {
  readonly cid: CID;
  /** Path of its segment, and the bytes `[start, end)` that it has there. */
  readonly file: string;
  readonly start: number;
  readonly end: number;
}

/** All that are in the store in `directory`, whatever its index says. */
export async function wholeRecords(directory: string): Promise<WholeRecord[]> {
  const records: WholeRecord[] = [];
  for (const path of await segmentFiles(directory)) {
    await using file = await open(path, 'r');
    for await (const { cid, offset, headerBytes, storedBytes } of scanRecords(file, SEGMENT_HEADER_BYTES)) {
      records.push({ cid, file: path, start: offset, end: offset + headerBytes + storedBytes });
    }
  }
  return records;
}

/** Those that the loss did not touch. */
export function spared(records: readonly WholeRecord[], lost: Lost): WholeRecord[] {
  return records.filter(({ file, start, end }) => file !== lost.file || start >= lost.end || end <= lost.start);
}
