import assert from 'node:assert/strict';
import type { Random } from './random.ts';
import type { Worker } from './worker.ts';

/** How far a process had come when it was killed. */
export interface Death {
  /** Payload bytes whose puts had resolved. */
  readonly stored: number;
  /** Bytes of each segment, by its path, that were on disk. */
  readonly synced: ReadonlyMap<string, number>;
}

/** Where the kill lands, as a share of the whole. What is kept from a doomed process is beyond it. */
const KILL = { from: 0.03, to: 0.7 };
/** This many of the kills wait for the next sync to be told: the index has not heard of it yet. */
const AT_SYNC = 0.25;

/** Kills `worker` at a random point of the `total` payload bytes. Rejects unless that was before it was done. */
export async function kill(worker: Worker, total: number, random: Random): Promise<Death> {
  const target = (KILL.from + (KILL.to - KILL.from) * random()) * total;
  const trigger = random() < AT_SYNC ? 'synced' : 'stored';
  const synced = new Map<string, number>();
  let stored = 0;
  let killed = false;
  // What it said in the moment before it died comes after the kill.
  for await (const word of worker.words()) {
    assert.ok(word.said !== 'done', `it was done before the kill at ${target}`);
    if (word.said === 'synced') synced.set(word.file, word.bytes);
    if (word.said === 'stored') stored = word.bytes;
    if (killed || stored < target || word.said !== trigger) continue;
    killed = true;
    worker.kill();
  }
  const ended = await worker.ended;
  assert.ok(killed && ended === 'SIGKILL', `it ended by itself (${ended}) after ${stored} bytes`);
  assert.ok(stored < total, `it had all of ${total} bytes at the kill`);
  return { stored, synced };
}
