import { spawn } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import { mkdtemp, open, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { importFile } from '../src/content/import-file.ts';
import { PackStore } from '../src/store/pack-store.ts';
import { readArtifact } from '../src/content/read-artifact.ts';
import { silentLog } from '../src/observe/log.ts';
import { STORE_OPTIONS } from './store-crash/options.ts';

export const summary =
  'Store: seeded SIGKILLs and power losses during imports; every restart must be clean and resume.';

/**
 * What happens besides the kill. A power loss takes what was written after the last sync: the tail of the segment is
 * cut, or reads as zeros, or has a hole of zeros. `index` loses LevelDB altogether.
 */
export const LOSSES = ['kill', 'truncate', 'zero', 'hole', 'index'] as const;
export type Loss = (typeof LOSSES)[number];

export interface Crash {
  readonly loss: Loss;
  /** Bytes that the importer had reported when it was killed, and the file's size. */
  readonly killedAt: number;
  readonly fileBytes: number;
  /** Segment bytes that were beyond the last sync, and how many of them were taken away. */
  readonly unsynced: number;
  readonly lost: number;
  /** Chunks in the store after the restart, and after the resumed import. */
  readonly recovered: number;
  readonly chunks: number;
}

const importer = fileURLToPath(new URL('store-crash/importer.ts', import.meta.url));
const PAGE = 4096;

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const { values } = parseArgs({
    args: argv,
    options: {
      json: { type: 'boolean', default: false },
      kills: { type: 'string', default: '50' },
      seed: { type: 'string', default: '1' },
      mib: { type: 'string', default: '48' },
    },
  });
  const crashes: Crash[] = [];
  const directory = await mkdtemp(join(tmpdir(), 'bm-crash-'));
  try {
    const file = await seededFile(directory, values.seed, Number(values.mib) * 1024 * 1024);
    for (let i = 0; i < Number(values.kills); i++) {
      const loss = LOSSES[i % LOSSES.length] as Loss;
      const crash = await crashImport({ directory, file, loss, random: seeded(`${values.seed}/${i}`), signal });
      crashes.push(crash);
      if (!values.json) console.log(`${String(i + 1).padStart(3)} ${JSON.stringify(crash)}`);
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  const sum = (pick: (crash: Crash) => number) => crashes.reduce((total, crash) => total + pick(crash), 0);
  const result = {
    bench: 'store-crash',
    ok: true,
    seed: values.seed,
    kills: crashes.length,
    unsynced_bytes: sum((crash) => crash.unsynced),
    lost_bytes: sum((crash) => crash.lost),
    recovered_share: Number((sum((crash) => crash.recovered) / sum((crash) => crash.chunks)).toFixed(3)),
  };
  console.log(values.json ? JSON.stringify(result) : result);
}

/** Random numbers in [0, 1) that follow from `seed`. */
export function seeded(seed: string): () => number {
  let state = createHash('sha256').update(seed).digest();
  return () => {
    state = createHash('sha256').update(state).digest();
    return state.readUInt32BE() / 2 ** 32;
  };
}

/** A file of bytes that do not compress and follow from `seed`. */
export async function seededFile(directory: string, seed: string, bytes: number) {
  const key = createHash('sha256').update(seed).digest();
  const content = createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(bytes));
  const path = join(directory, 'artifact');
  await writeFile(path, content);
  return { path, bytes, sha256: createHash('sha256').update(content).digest('hex') };
}

interface CrashOptions {
  /** A scratch directory; the store in it is made afresh. */
  readonly directory: string;
  readonly file: { readonly path: string; readonly bytes: number; readonly sha256: string };
  readonly loss: Loss;
  readonly random: () => number;
  readonly signal: AbortSignal;
}

/**
 * Imports in a child process, kills it at a random point before it is done, applies the loss, and opens the store
 * again. Rejects unless the restart finds nothing wrong, all that was synced is there, and the import resumes to the
 * right bytes.
 */
export async function crashImport({ directory, file, loss, random, signal }: CrashOptions): Promise<Crash> {
  const store = join(directory, 'store');
  await rm(store, { recursive: true, force: true });
  const { synced, killedAt } = await killImport(store, file, random, signal);
  const { unsynced, lost } = await lose(store, loss, synced, random);
  await using reopened = await PackStore.open(store, { log: silentLog }, STORE_OPTIONS);
  const recovered = reopened.stats().chunks;
  // A kill alone loses nothing that a put had resolved for.
  check(lost > 0 || reopened.stats().bytes >= killedAt, `only ${reopened.stats().bytes} of ${killedAt} bytes are left`);
  const { damaged } = await reopened.verify({ signal });
  check(damaged.length === 0, `verify found ${damaged.length} damaged chunks after ${loss}`);
  await checkSynced(store, synced);
  const manifest = await importFile(file.path, reopened, { signal });
  const chunks = reopened.stats().chunks;
  check(recovered < chunks, `nothing was missing after the kill at ${killedAt}: it came too late`);
  const hash = createHash('sha256');
  for await (const piece of readArtifact(manifest, reopened, { signal })) hash.update(piece);
  check(hash.digest('hex') === file.sha256, 'the resumed import reads back as other bytes');
  return { loss, killedAt, fileBytes: file.bytes, unsynced, lost, recovered, chunks };
}

/** Resolves when the importer is dead; `synced` maps segment files to the bytes that it had synced. */
async function killImport(store: string, file: CrashOptions['file'], random: () => number, signal: AbortSignal) {
  const target = (0.05 + 0.6 * random()) * file.bytes;
  const child = spawn(process.execPath, [importer, store, file.path], { stdio: ['ignore', 'pipe', 'inherit'], signal });
  const exited = new Promise<NodeJS.Signals | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (_code, by) => resolve(by));
  });
  const synced = new Map<string, number>();
  let killedAt = 0;
  for await (const line of createInterface(child.stdout)) {
    const [word, ...rest] = line.split(' ');
    check(word !== 'done', `the import was done before the kill at ${target}`);
    if (word === 'synced') synced.set(rest.slice(0, -1).join(' '), Number(rest.at(-1)));
    if (word !== 'progress' || killedAt > 0 || Number(rest[0]) < target) continue;
    killedAt = Number(rest[0]);
    child.kill('SIGKILL');
  }
  check((await exited) === 'SIGKILL', 'the importer ended by itself');
  return { synced, killedAt };
}

async function lose(store: string, loss: Loss, synced: Map<string, number>, random: () => number) {
  if (loss === 'index') await rm(join(store, 'index.v1'), { recursive: true });
  const segments = join(store, 'segments');
  const last = join(segments, (await readdir(segments)).sort().at(-1) ?? '');
  await using handle = await open(last, 'r+');
  const { size } = await handle.stat();
  // A segment's header is synced before its first record; the importer reports records only.
  const from = synced.get(last) ?? Math.min(size, 28);
  const unsynced = size - from;
  if (loss === 'kill' || loss === 'index' || unsynced === 0) return { unsynced, lost: 0 };
  const start = from + Math.floor(random() * unsynced);
  if (loss === 'truncate') await handle.truncate(start);
  const end = loss === 'hole' ? Math.min(size, start + PAGE * (1 + Math.floor(random() * 16))) : size;
  if (loss !== 'truncate') await handle.write(Buffer.alloc(end - start), 0, end - start, start);
  return { unsynced, lost: end - start };
}

async function checkSynced(store: string, synced: Map<string, number>): Promise<void> {
  for (const name of await readdir(join(store, 'segments'))) {
    const path = join(store, 'segments', name);
    await using handle = await open(path, 'r');
    const { size } = await handle.stat();
    check(size >= (synced.get(path) ?? 0), `${name} lost synced bytes: ${size} of ${synced.get(path)} are left`);
  }
}

function check(holds: boolean, otherwise: string): asserts holds {
  if (!holds) throw new Error(otherwise);
}
