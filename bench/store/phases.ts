import { createHash, randomBytes } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CID } from 'multiformats/cid';
import { chunkCid } from '../../src/content/chunk.ts';
import { readManifest } from '../../src/content/manifest.ts';
import { importFile } from '../../src/import/import-file.ts';
import { silentLog } from '../../src/observe/log.ts';
import { PackStore } from '../../src/store/pack-store.ts';
import { seeded, seededBytes } from '../store-crash/random.ts';

/** What a process is to measure. */
export interface Plan {
  readonly phase: keyof typeof PHASES;
  /** A file of `bytes` bytes. */
  readonly payload: string;
  readonly bytes: number;
  /** A store, or where one is to be made. */
  readonly store: string;
  /** The artifact in it. */
  readonly root?: string | undefined;
  readonly chunks: number;
}

/** What came out: `bytes` in `seconds`. */
export interface Report {
  readonly seconds: number;
  readonly bytes: number;
  /** Processor time of the process meanwhile, all its threads, seconds. */
  readonly cpu: number;
  readonly root?: string;
}

const PIECE = 4 * 1024 * 1024;
/** Larger than a core's own cache, as a file is. */
const HASHED = 64 * 1024 * 1024;
/** Reads under way at a time, as for a few peers. */
const READERS = 16;
const CHUNK = 64 * 1024;
/** Puts under way at a time, as in a download from a few peers. */
const PUTS = 64;
const { signal } = new AbortController();

/** Each measures one thing, in a process of its own. */
export const PHASES = { hash, write, import: importing, plain, encoded, get, fill, gc, recover } as const;

async function timed(bytes: number, work: () => Promise<unknown> | undefined): Promise<Report> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await work();
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { seconds, bytes, cpu: (user + system) / 1e6 };
}

/** sha256 on one core, from memory. */
async function hash({ bytes }: Plan): Promise<Report> {
  const memory = randomBytes(HASHED);
  return await timed(bytes, () => {
    const all = createHash('sha256');
    for (let at = 0; at < bytes; at += PIECE) all.update(memory.subarray(at % HASHED, (at % HASHED) + PIECE));
    all.digest();
    return undefined;
  });
}

/** One file, written from its beginning to its end and synced. */
async function write({ bytes, store }: Plan): Promise<Report> {
  const memory = randomBytes(HASHED);
  const path = `${store}.written`;
  await using file = await open(path, 'w');
  const report = await timed(bytes, async () => {
    for (let at = 0; at < bytes; at += PIECE) await file.write(memory, at % HASHED, PIECE, at);
    await file.sync();
  });
  await rm(path);
  return report;
}

async function importing({ bytes, payload, store: directory }: Plan): Promise<Report> {
  await using store = await PackStore.open(directory, { log: silentLog });
  let root = '';
  const report = await timed(bytes, async () => {
    root = String((await importFile(payload, store, { signal })).cid);
  });
  return { ...report, root };
}

/** The payload's chunks in random order: the same ranges for all three ways of reading. */
async function ranges({ store: directory, root }: Plan, store?: PackStore) {
  const opened = store ?? (await PackStore.open(directory, { log: silentLog }));
  const { leaves } = await readManifest(CID.parse(root ?? ''), opened, { signal });
  if (!store) await opened[Symbol.asyncDispose]();
  const random = seeded('order');
  const order = leaves.map((leaf) => ({ leaf, at: random() })).sort((a, b) => a.at - b.at);
  return order.map(({ leaf }) => leaf);
}

async function read<T>(all: readonly T[], bytes: number, one: (item: T, reader: number) => Promise<unknown>) {
  let next = 0;
  const reader = async (_: unknown, number: number) => {
    for (let item = all[next++]; item !== undefined; item = all[next++]) await one(item, number);
  };
  return await timed(bytes, () => Promise.all(Array.from({ length: READERS }, reader)));
}

/** From the payload's own file, each reader into a buffer that it uses again. */
async function plain(plan: Plan): Promise<Report> {
  const all = await ranges(plan);
  const buffers = Array.from({ length: READERS }, () => Buffer.alloc(1024 * 1024));
  await using file = await open(plan.payload, 'r');
  return await read(all, plan.bytes, ({ size, offset }, reader) =>
    file.read(buffers[reader] as Buffer, 0, size, offset),
  );
}

/** As a chunk is read that goes to a peer. */
async function encoded(plan: Plan): Promise<Report> {
  await using store = await PackStore.open(plan.store, { log: silentLog });
  return await read(await ranges(plan, store), plan.bytes, async ({ cid }) => {
    const found = await store.encoded(cid, { signal, zstd: true });
    if (!found) throw new Error(`${cid} is missing`);
    found.release?.();
  });
}

/** As a chunk is read for use here: checked by its hash. */
async function get(plan: Plan): Promise<Report> {
  await using store = await PackStore.open(plan.store, { log: silentLog });
  return await read(await ranges(plan, store), plan.bytes, async ({ cid }) => {
    if (!(await store.get(cid, { signal }))) throw new Error(`${cid} is missing`);
  });
}

/** Chunks of 64 KiB that do not compress, the same ones in every process. */
function* chunksOf(count: number): Generator<{ cid: CID; bytes: Buffer }> {
  const memory = seededBytes('chunks', CHUNK);
  for (let i = 0; i < count; i++) {
    const bytes = Buffer.from(memory);
    bytes.writeUInt32BE(i);
    yield { cid: chunkCid(bytes), bytes };
  }
}

/** Puts `chunks` chunks, many at a time as in a download. */
async function fill({ store: directory, chunks }: Plan): Promise<Report> {
  await using store = await PackStore.open(directory, { log: silentLog });
  return await timed(chunks * CHUNK, async () => {
    let puts: Promise<void>[] = [];
    for (const { cid, bytes } of chunksOf(chunks)) {
      puts.push(store.put(cid, bytes));
      if (puts.length < PUTS) continue;
      await Promise.all(puts);
      puts = [];
    }
    await Promise.all(puts);
    await store.flush();
  });
}

/** Evicts every second chunk, so that no segment stays as it is; `bytes` are those that had to be moved. */
async function gc({ store: directory, chunks }: Plan): Promise<Report> {
  let seconds = 0;
  await using store = await PackStore.open(directory, { log: silentLog, seconds: () => seconds }, { graceSeconds: -1 });
  seconds = 1;
  let even = true;
  for (const { cid } of chunksOf(chunks)) {
    if (even) (await store.encoded(cid, { signal, zstd: true }))?.release?.();
    even = !even;
  }
  const { diskBytes } = store.stats();
  const report = await timed((chunks * CHUNK) / 2, () => store.gc({ signal, lowBytes: diskBytes / 2 }));
  const left = store.stats();
  // The half that was not read, but for what was not worth the moving.
  if (left.chunks > chunks * 0.55 || left.diskBytes > diskBytes * 0.6) throw new Error(`gc left ${left.chunks} chunks`);
  return report;
}

/** Loses the index, and opens the store. */
async function recover({ store: directory, chunks }: Plan): Promise<Report> {
  await rm(join(directory, 'index.v1'), { recursive: true });
  const report = await timed(chunks * CHUNK, async () => {
    await using store = await PackStore.open(directory, { log: silentLog });
    const found = store.stats().chunks;
    if (found !== chunks) throw new Error(`recovered ${found} of ${chunks} chunks`);
  });
  return report;
}

if (process.send) {
  const plan = JSON.parse(process.argv[2] ?? '{}') as Plan;
  const report = await PHASES[plan.phase](plan);
  process.send(report);
}
