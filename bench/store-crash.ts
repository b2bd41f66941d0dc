import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { silentLog } from '../src/observe/log.ts';
import { openProgress } from '../src/observe/progress.ts';
import { PackStore } from '../src/store/pack-store.ts';
import { record, signed } from './record/result.ts';
import { importSeeded } from './store-crash/artifact.ts';
import { type Crash, crash, type Work } from './store-crash/crash.ts';
import { DownloadWork } from './store-crash/download-work.ts';
import { ImportWork } from './store-crash/import-work.ts';
import { LOSSES, POWER_LOSSES } from './store-crash/loss.ts';
import { seeded } from './store-crash/random.ts';

export const summary = 'seeded kills and power losses during imports and downloads: every restart is clean and resumes';

const ARTIFACT_BYTES = 16 * 1024 * 1024;
/** What the acceptance list asks for, of each; a shorter run proves less and is not recorded. */
const KILLS = 50;

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const { values } = parseArgs({
    args: argv,
    options: {
      json: { type: 'boolean', default: false },
      imports: { type: 'string', default: String(KILLS) },
      downloads: { type: 'string', default: String(KILLS) },
      seed: { type: 'string', default: '1' },
    },
  });
  const kills = { imports: count('imports', values.imports), downloads: count('downloads', values.downloads) };
  const { seed } = values;
  const started = performance.now();
  const directory = await mkdtemp(join(tmpdir(), 'bm-crash-'));
  let keep = false;
  try {
    await using origin = await PackStore.open(join(directory, 'origin'), { log: silentLog });
    const artifact = await importSeeded(seed, ARTIFACT_BYTES, origin, { signal });
    await using downloads = await DownloadWork.open(artifact, origin);
    const all = kills.imports + kills.downloads;
    const progress = openProgress({ label: `${all} kills`, total: all * ARTIFACT_BYTES, stream: process.stderr });
    let done = 0;
    const half = (work: Work, count: number) =>
      crashAll(work, {
        kills: count,
        seed,
        directory: join(directory, work.name),
        signal,
        onCrash: () => progress.update(++done * ARTIFACT_BYTES),
      });
    // Side by side: each of them mostly waits for a process to start.
    const importing = half(new ImportWork(artifact), kills.imports);
    const downloading = half(downloads, kills.downloads);
    await Promise.allSettled([importing, downloading]);
    progress.finish();
    const [imported, downloaded] = [await importing, await downloading];
    const failures = [...imported.failures, ...downloaded.failures];
    keep = failures.length > 0;
    const result = signed({
      ok: failures.length === 0,
      imports: account(imported.crashes),
      downloads: { ...account(downloaded.crashes), ...traffic(downloaded.crashes) },
      ...(failures.length > 0 && { failures }),
      seed,
      artifact_bytes: ARTIFACT_BYTES,
      seconds: Math.round((performance.now() - started) / 1000),
    });
    if (kills.imports >= KILLS && kills.downloads >= KILLS) await record('store-crash', result);
    console.log(values.json ? JSON.stringify(result) : result);
    if (!result.ok) process.exitCode = 1;
  } finally {
    if (!keep) await rm(directory, { recursive: true, force: true });
  }
}

function count(name: string, value: string): number {
  if (!/^\d+$/.test(value)) throw new RangeError(`--${name} must be a number of kills, not ${value}`);
  return Number(value);
}

interface CrashAllOptions {
  readonly kills: number;
  readonly seed: string;
  readonly directory: string;
  readonly signal: AbortSignal;
  onCrash(): void;
}

/**
 * One crash after the other, each survived twice: after the kill alone, and after a power loss, each kind in turn. A
 * failure is told at once, its store is kept, and the rest go on: the seed gives the kill and the loss again, but not
 * the machine's timing.
 */
async function crashAll(work: Work, { kills, seed, directory, signal, onCrash }: CrashAllOptions) {
  const crashes: Crash[] = [];
  const failures: string[] = [];
  for (let i = 0; i < kills; i += 1) {
    signal.throwIfAborted();
    const losses = ['kill', POWER_LOSSES[i % POWER_LOSSES.length] ?? 'zero'] as const;
    try {
      crashes.push(await crash({ work, losses, random: seeded(`${seed}/${work.name}/${i}`), directory, signal }));
    } catch (error) {
      signal.throwIfAborted();
      const kept = `${directory}.failed-${i}`;
      await rename(directory, kept);
      failures.push(`${work.name} ${i} (${losses}, seed ${seed}): ${reason(error)}; see ${kept}`);
      console.error(failures.at(-1));
    }
    onCrash();
  }
  return { crashes, failures };
}

/** One line of it. An aborted process says why only in the cause. */
function reason(error: unknown): string {
  const { message, cause } = error as Error;
  return (cause instanceof Error ? cause.message : message).split('\n')[0] ?? '';
}

/** What became of the kills that ended well. */
function account(crashes: readonly Crash[]) {
  const shares = crashes.map(({ killedAt, total }) => killedAt / total).sort((a, b) => a - b);
  const share = (at: number) => Number((shares[Math.floor(at * (shares.length - 1))] ?? 0).toFixed(3));
  const aftermaths = crashes.flatMap((each) => each.aftermaths);
  const powerLosses = aftermaths.filter(({ loss }) => loss !== 'kill');
  return {
    kills: crashes.length,
    losses: Object.fromEntries(LOSSES.map((loss) => [loss, aftermaths.filter((each) => each.loss === loss).length])),
    /** Shares of the artifact that were stored at the kill. */
    killed_at: { least: share(0), median: share(0.5), most: share(1) },
    /** Power losses that took something, what was unsynced then, and what of it was taken, in segment bytes. */
    tails_lost: powerLosses.filter(({ lost }) => lost > 0).length,
    unsynced_bytes: sum(powerLosses.map(({ unsynced }) => unsynced)),
    lost_bytes: sum(powerLosses.map(({ lost }) => lost)),
    kept_bytes: sum(aftermaths.map(({ kept }) => kept)),
    missing_bytes: sum(aftermaths.map(({ missing }) => missing)),
  };
}

/** What the resumed downloads took from the swarm, and what of it was in the store already. */
function traffic(crashes: readonly Crash[]) {
  const aftermaths = crashes.flatMap((each) => each.aftermaths);
  return {
    fetched_bytes: sum(aftermaths.map(({ fetched }) => fetched)),
    refetched_bytes: sum(aftermaths.map(({ fetched, missing }) => Math.max(0, fetched - missing))),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
