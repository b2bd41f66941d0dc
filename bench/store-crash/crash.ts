import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import type { CID } from 'multiformats/cid';
import { readManifest } from '../../src/content/manifest.ts';
import { readArtifact } from '../../src/content/read-artifact.ts';
import { silentLog } from '../../src/observe/log.ts';
import { PackStore } from '../../src/store/pack-store.ts';
import { SEGMENT_HEADER_BYTES, scanRecords } from '../../src/store/segment.ts';
import type { Artifact } from './artifact.ts';
import { type Loss, type Lost, lose, segmentFiles } from './loss.ts';
import type { Random } from './random.ts';
import { STORE_OPTIONS } from './store-options.ts';
import type { Worker } from './worker.ts';

/** A way to bring an artifact into a store, by a process that can be killed. */
export interface Work {
  readonly name: string;
  readonly artifact: Artifact;
  /** Starts the process on the store in `directory`, and keeps a piece from it, so that it cannot get done. */
  startDoomed(directory: string, options: { readonly random: Random; readonly signal: AbortSignal }): Worker;
  /** Starts it once more, and lets it get done. */
  resume(directory: string, options: { readonly signal: AbortSignal }): Worker;
  /** Bytes that the artifact's source has given out over the network so far, to all processes together. */
  fetched(): number;
}

export interface CrashOptions {
  readonly work: Work;
  readonly loss: Loss;
  readonly random: Random;
  /** The store, which is made afresh. */
  readonly directory: string;
  readonly signal: AbortSignal;
}

/** A kill, and what the store and the work made of it. Counts are payload bytes unless said otherwise. */
export interface Crash {
  readonly loss: Loss;
  /** Stored, in resolved puts, when the process died… */
  readonly killedAt: number;
  /** …out of this many. */
  readonly total: number;
  /** Segment bytes beyond the last sync, and how many of them were taken away. */
  readonly unsynced: number;
  readonly lost: number;
  /** In the store after the restart. */
  readonly kept: number;
  /** Not in the store after the restart: what the work has left to do. */
  readonly missing: number;
  /** What the source sent over the network to finish it. */
  readonly fetched: number;
}

/** Where the kill lands: a share of the artifact. What is kept from a doomed process is beyond it. */
const KILL = { from: 0.03, to: 0.7 };
/** This many of the kills wait for the next sync to be told: before the index has heard of it. */
const AT_SYNC = 0.25;
/** A work may fetch this much twice when it resumes: a machine that stalls makes it ask again. */
const SLACK_BYTES = 512 * 1024;
const LIMIT_MS = 60_000;

/**
 * Starts the work, kills it at a random point, applies the loss, opens the store again and resumes. Rejects unless
 * the restart finds nothing wrong, everything that the loss left whole is there, and the resumed work ends with the
 * right bytes without having fetched again what was there.
 */
export async function crash({ work, loss, random, directory, signal: parent }: CrashOptions): Promise<Crash> {
  const signal = AbortSignal.any([parent, AbortSignal.timeout(LIMIT_MS)]);
  const { artifact } = work;
  await rm(directory, { recursive: true, force: true });
  using doomed = work.startDoomed(directory, { random, signal });
  const { stored, synced } = await kill(doomed, artifact, random);
  const records = await wholeRecords(directory);
  const lost = await lose(directory, loss, synced, random);
  const { kept, missing } = await reopen(directory, artifact, survivors(records, lost), signal);
  const lostBytes = lost.end - lost.start;
  assert.ok(lostBytes > 0 || kept >= stored, `puts of ${stored} bytes had resolved, ${kept} are left`);
  assert.ok(missing > 0, `nothing was missing after the kill at ${stored} bytes`);
  const before = work.fetched();
  using resumed = work.resume(directory, { signal });
  await finish(resumed, artifact);
  const fetched = work.fetched() - before;
  assert.ok(fetched <= missing + SLACK_BYTES, `${missing} bytes were missing, ${fetched} were fetched`);
  await prove(directory, artifact, signal);
  return {
    loss,
    killedAt: stored,
    total: artifact.content.length,
    unsynced: lost.unsynced,
    lost: lostBytes,
    kept,
    missing,
    fetched,
  };
}

/** Resolves when the process is dead. `synced` maps a segment's path to the bytes that were synced. */
async function kill(worker: Worker, { content }: Artifact, random: Random) {
  const target = (KILL.from + (KILL.to - KILL.from) * random()) * content.length;
  const trigger = random() < AT_SYNC ? 'synced' : 'stored';
  const synced = new Map<string, number>();
  let stored = 0;
  let killed = false;
  for await (const word of worker.words()) {
    assert.notEqual(word.said, 'done', `it was done before the kill at ${target}`);
    if (word.said === 'synced') synced.set(word.file, word.bytes);
    if (word.said === 'stored') stored = word.bytes;
    if (killed || stored < target || word.said !== trigger) continue;
    killed = true;
    worker.kill();
  }
  assert.equal(await worker.ended, 'SIGKILL', `it ended by itself, at ${stored}`);
  assert.ok(stored < content.length, `it had everything at the kill: ${stored} of ${content.length}`);
  return { stored, synced };
}

interface WholeRecord {
  readonly cid: CID;
  readonly file: string;
  readonly start: number;
  readonly end: number;
}

/** Every record in the store's segments that is complete and matches its hash. */
async function wholeRecords(directory: string): Promise<WholeRecord[]> {
  const records: WholeRecord[] = [];
  for (const path of await segmentFiles(directory)) {
    await using file = await open(path, 'r');
    for await (const { cid, offset, headerBytes, storedBytes } of scanRecords(file, SEGMENT_HEADER_BYTES)) {
      records.push({ cid, file: path, start: offset, end: offset + headerBytes + storedBytes });
    }
  }
  return records;
}

function survivors(records: readonly WholeRecord[], lost: Lost): CID[] {
  const hit = ({ file, start, end }: WholeRecord) => file === lost.file && start < lost.end && end > lost.start;
  return records.filter((record) => !hit(record)).map(({ cid }) => cid);
}

async function reopen(directory: string, { manifest }: Artifact, expected: readonly CID[], signal: AbortSignal) {
  await using store = await PackStore.open(directory, { log: silentLog }, STORE_OPTIONS);
  const { damaged } = await store.verify({ signal });
  assert.equal(damaged.length, 0, `verify found ${damaged.length} damaged chunks`);
  for (const cid of expected) assert.ok(await store.has(cid), `${cid} is whole on disk, and not in the store`);
  let missing = 0;
  for (const { cid, size } of manifest.set.chunks) if (!(await store.has(cid))) missing += size;
  return { kept: store.stats().bytes, missing };
}

/** Resolves when the process has said that it is done, and ended well. */
async function finish(worker: Worker, { manifest }: Artifact): Promise<void> {
  let root = '';
  for await (const word of worker.words()) if (word.said === 'done') root = word.root;
  assert.equal(await worker.ended, 0, 'the resumed work failed');
  assert.equal(root, manifest.cid.toString(), 'the resumed work made something else');
}

/** The artifact is in the store, once, and its bytes are right. */
async function prove(directory: string, { manifest, sha256 }: Artifact, signal: AbortSignal): Promise<void> {
  await using store = await PackStore.open(directory, { log: silentLog }, STORE_OPTIONS);
  const read = await readManifest(manifest.cid, store, { signal });
  const hash = createHash('sha256');
  for await (const piece of readArtifact(read, store, { signal })) hash.update(piece);
  assert.equal(hash.digest('hex'), sha256, 'the resumed work reads back as other bytes');
  assert.equal(store.stats().chunks, manifest.set.chunks.length + manifest.nodes.length);
}
