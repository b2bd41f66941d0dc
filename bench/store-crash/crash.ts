import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cp, rm } from 'node:fs/promises';
import { readManifest } from '../../src/content/manifest.ts';
import { readArtifact } from '../../src/content/read-artifact.ts';
import { silentLog } from '../../src/observe/log.ts';
import { PackStore } from '../../src/store/pack-store.ts';
import type { Artifact } from './artifact.ts';
import { type Death, kill } from './death.ts';
import { type Loss, lose } from './loss.ts';
import type { Random } from './random.ts';
import { STORE_OPTIONS } from './store-options.ts';
import { spared, type WholeRecord, wholeRecords } from './whole-record.ts';
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
  /** What happens to the store besides: each to a copy of what the killed process left. */
  readonly losses: readonly Loss[];
  readonly random: Random;
  /** The store, which is made afresh. */
  readonly directory: string;
  readonly signal: AbortSignal;
}

/** A kill, and what came of it. Counts are payload bytes unless said otherwise. */
export interface Crash {
  /** Stored, in resolved puts, when the process died… */
  readonly killedAt: number;
  /** …out of this many. */
  readonly total: number;
  readonly aftermaths: readonly Aftermath[];
}

export interface Aftermath {
  readonly loss: Loss;
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

/** A work may fetch this much twice when it resumes: a machine that stalls makes it ask again. */
const SLACK_BYTES = 512 * 1024;
const LIMIT_MS = 60_000;

/**
 * Starts the work and kills it at a random point. For each loss: applies it, opens the store again and resumes.
 * Rejects unless the restart finds nothing wrong, everything that the loss spared is there, and the resumed work ends
 * with the right bytes without having fetched again what was there.
 */
export async function crash({ work, losses, random, directory, signal: parent }: CrashOptions): Promise<Crash> {
  const signal = AbortSignal.any([parent, AbortSignal.timeout(LIMIT_MS)]);
  const total = work.artifact.content.length;
  await rm(directory, { recursive: true, force: true });
  using doomed = work.startDoomed(directory, { random, signal });
  const death = await kill(doomed, total, random);
  const records = await wholeRecords(directory);
  const dead = `${directory}.dead`;
  await rm(dead, { recursive: true, force: true });
  await cp(directory, dead, { recursive: true });
  const aftermaths: Aftermath[] = [];
  for (const loss of losses) {
    await rm(directory, { recursive: true });
    await cp(dead, directory, { recursive: true });
    aftermaths.push(await survive(work, directory, loss, { death, records, random, signal }));
  }
  return { killedAt: death.stored, total, aftermaths };
}

interface Before {
  readonly death: Death;
  readonly records: readonly WholeRecord[];
  readonly random: Random;
  readonly signal: AbortSignal;
}

async function survive(work: Work, directory: string, loss: Loss, before: Before): Promise<Aftermath> {
  const { death, records, random, signal } = before;
  const { artifact } = work;
  const lost = await lose(directory, loss, death.synced, random);
  const lostBytes = lost.end - lost.start;
  const { kept, missing } = await reopen(directory, artifact, spared(records, lost), signal);
  assert.ok(lostBytes > 0 || kept >= death.stored, `puts of ${death.stored} bytes had resolved, ${kept} are left`);
  assert.ok(missing > 0, `nothing was missing after the kill at ${death.stored} bytes`);
  const fetchedBefore = work.fetched();
  using resumed = work.resume(directory, { signal });
  await finish(resumed, artifact);
  const fetched = work.fetched() - fetchedBefore;
  assert.ok(fetched <= missing + SLACK_BYTES, `${missing} bytes were missing, ${fetched} were fetched`);
  await prove(directory, artifact, signal);
  return { loss, unsynced: lost.unsynced, lost: lostBytes, kept, missing, fetched };
}

/** The restart: nothing is wrong, and what is whole on disk is in the store. */
async function reopen(directory: string, { manifest }: Artifact, whole: readonly WholeRecord[], signal: AbortSignal) {
  await using store = await PackStore.open(directory, { log: silentLog }, STORE_OPTIONS);
  const { damaged } = await store.verify({ signal });
  assert.ok(damaged.length === 0, `verify found ${damaged.length} damaged chunks`);
  for (const { cid } of whole) assert.ok(await store.has(cid), `${cid} is whole on disk, and not in the store`);
  let missing = 0;
  for (const { cid, size } of manifest.set.chunks) if (!(await store.has(cid))) missing += size;
  return { kept: store.stats().bytes, missing };
}

/** Resolves when the process has said that it is done, and ended well. */
async function finish(worker: Worker, { manifest }: Artifact): Promise<void> {
  let root = 'nothing';
  for await (const word of worker.words()) if (word.said === 'done') root = word.root;
  const ended = await worker.ended;
  assert.ok(ended === 0, `the resumed work failed (${ended})`);
  assert.ok(root === manifest.cid.toString(), `the resumed work made ${root}`);
}

/** The artifact is in the store, once, and its bytes are right. */
async function prove(directory: string, { manifest, sha256 }: Artifact, signal: AbortSignal): Promise<void> {
  await using store = await PackStore.open(directory, { log: silentLog }, STORE_OPTIONS);
  const read = await readManifest(manifest.cid, store, { signal });
  const hash = createHash('sha256');
  for await (const piece of readArtifact(read, store, { signal })) hash.update(piece);
  assert.ok(hash.digest('hex') === sha256, 'the resumed work reads back as other bytes');
  const chunks = manifest.set.chunks.length + manifest.nodes.length;
  assert.ok(store.stats().chunks === chunks, `the store has ${store.stats().chunks} chunks instead of ${chunks}`);
}
