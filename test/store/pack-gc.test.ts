import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { cpSync } from 'node:fs';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { CID } from 'multiformats/cid';
import { chunkCid } from '../../src/content/chunk.ts';
import { ChunkSet } from '../../src/content/chunk-set.ts';
import { Chunker } from '../../src/content/chunker.ts';
import { readArtifact } from '../../src/content/read-artifact.ts';
import { importFile } from '../../src/import/import-file.ts';
import { silentLog } from '../../src/observe/log.ts';
import type { PackStoreOptions } from '../../src/store/pack-options.ts';
import { PackStore } from '../../src/store/pack-store.ts';

const { signal } = new AbortController();
const chunker = new Chunker({ min: 1024, average: 4096, max: 16384 });
let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'bm-gc-'));
});
after(() => rm(root, { recursive: true, force: true }));

const openStore = (directory: string, options: PackStoreOptions = {}) =>
  PackStore.open(
    directory,
    { log: silentLog, seconds: () => seconds },
    { segmentBytes: 100_000, graceSeconds: 0, ...options },
  );
const fresh = () => mkdtemp(join(root, 'store-'));

async function* of(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function fill(store: PackStore, count: number): Promise<CID[]> {
  const cids: CID[] = [];
  for (let i = 0; i < count; i++) {
    const bytes = randomBytes(10_000);
    cids.push(chunkCid(bytes));
    await store.put(chunkCid(bytes), bytes);
  }
  return cids;
}

async function held(store: PackStore, cids: readonly CID[]): Promise<number> {
  const found = await Promise.all(cids.map((cid) => store.has(cid)));
  return found.filter(Boolean).length;
}

async function bytesOnDisk(directory: string): Promise<number> {
  let sum = 0;
  for (const name of await readdir(join(directory, 'segments'))) {
    sum += (await stat(join(directory, 'segments', name)).catch(() => ({ size: 0 }))).size;
  }
  return sum;
}

async function readAll(store: PackStore, manifest: Parameters<typeof readArtifact>[0]): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of readArtifact(manifest, store, { signal })) parts.push(part);
  return Buffer.concat(parts);
}

/** The stores' clock: what is written or read after `nextSecond` is younger than what was before. */
let seconds = 0;
const nextSecond = () => void seconds++;

describe('garbage collection', () => {
  it('evicts what is neither pinned nor held, oldest first, and shrinks the files', async () => {
    const directory = await fresh();
    const file = randomBytes(300_000);
    let manifest: Awaited<ReturnType<typeof importFile>>;
    let kept: CID[];
    let junk: CID[];
    {
      await using store = await openStore(directory);
      junk = await fill(store, 30);
      manifest = await importFile(of(file), store, { signal, chunker });
      await store.pins.pin('production', manifest.cid);
      kept = await fill(store, 5);
      using _hold = store.hold(
        new ChunkSet(
          manifest.cid,
          kept.map((cid) => ({ cid, size: 10_000 })),
        ),
      );
      junk.push(...(await fill(store, 30)));
      nextSecond();
      const report = await store.gc({ signal, lowBytes: 500_000 });
      assert.ok(report.evictedChunks > 30 && report.freedBytes > 400_000, JSON.stringify(report));
      // The files shrink to the mark, give or take what is not worth compacting.
      assert.ok((await bytesOnDisk(directory)) < 560_000);
      assert.equal(await held(store, kept), 5);
      assert.equal(await held(store, junk.slice(0, 30)), 0);
      assert.ok((await held(store, junk)) > 0, 'no more than needed is evicted');
      assert.deepEqual(await readAll(store, manifest), file);
    }
    await using store = await openStore(directory);
    assert.deepEqual(await readAll(store, manifest), file);
    assert.deepEqual((await store.verify({ signal })).damaged, []);
    await store.gc({ signal, lowBytes: 0 });
    assert.equal(await held(store, [...kept, ...junk]), 0);
    assert.deepEqual(await readAll(store, manifest), file);
  });

  it('keeps what was used within the grace, and otherwise what was used last', async () => {
    await using store = await openStore(await fresh());
    const chunks = await fill(store, 20);
    await store.gc({ signal, lowBytes: 0 });
    nextSecond();
    const used = chunks.slice(0, 5);
    for (const cid of used) await store.get(cid, { signal });
    nextSecond();
    await store.gc({ signal, lowBytes: 52_000 });
    assert.deepEqual([await held(store, used), await held(store, chunks)], [5, 5]);

    await using patient = await openStore(await fresh(), { graceSeconds: 60 });
    const recent = await fill(patient, 20);
    await patient.gc({ signal, lowBytes: 0 });
    assert.equal(await held(patient, recent), 20);
  });

  it('knows after a restart what was used last, and keeps what was in use then', async () => {
    const directory = await fresh();
    let chunks: CID[];
    {
      await using store = await openStore(directory);
      chunks = await fill(store, 30);
      nextSecond();
      for (const cid of chunks.slice(5, 10)) await store.get(cid, { signal });
      nextSecond();
      for (const cid of chunks.slice(0, 5)) await store.get(cid, { signal });
      nextSecond();
    }
    {
      await using store = await openStore(directory);
      nextSecond();
      await store.gc({ signal, lowBytes: 102_000 });
      assert.deepEqual([await held(store, chunks.slice(0, 10)), await held(store, chunks)], [10, 10]);
      await store.gc({ signal, lowBytes: 52_000 });
      assert.deepEqual([await held(store, chunks.slice(0, 5)), await held(store, chunks)], [5, 5]);
    }
    await using store = await openStore(directory, { graceSeconds: 60 });
    await store.gc({ signal, lowBytes: 0 });
    assert.equal(await held(store, chunks), 5);
  });

  it('compacts while everything is read, and needs one segment to spare at most', async () => {
    const directory = await fresh();
    await using store = await openStore(directory, {
      syncBytes: 1,
      onSync: () => void sizes.push(bytesOnDisk(directory)),
    });
    const sizes: Promise<number>[] = [];
    const file = randomBytes(600_000);
    // Pinned chunks between evictable ones, in every segment.
    const manifest = await importFile(of(file), store, { signal, chunker });
    const junk = await fill(store, 20);
    const second = await importFile(of(Buffer.concat([file, randomBytes(300_000)])), store, { signal, chunker });
    junk.push(...(await fill(store, 20)));
    await store.pins.pin('production', second.cid);
    nextSecond();
    const before = await bytesOnDisk(directory);
    sizes.length = 0;
    const stop = new AbortController();
    let reads = 0;
    const readers = [1, 2, 3].map(async () => {
      while (!stop.signal.aborted) {
        assert.ok((await readAll(store, manifest)).equals(file));
        reads++;
      }
    });
    const { freedBytes } = await store.gc({ signal, lowBytes: 0 });
    stop.abort();
    await Promise.all(readers);
    const most = Math.max(...(await Promise.all(sizes)));
    assert.ok(freedBytes > 350_000 && reads > 0, `${freedBytes} freed, ${reads} reads`);
    assert.ok(most <= before + 120_000, `${most} of ${before} at most`);
    assert.deepEqual((await store.verify({ signal })).damaged, []);
    const open = await readdir('/proc/self/fd');
    assert.ok(open.length < 100);
  });

  it('loses nothing when it is cut off at any sync', async () => {
    const directory = await fresh();
    const file = randomBytes(300_000);
    const snapshots: string[] = [];
    let collecting = false;
    let manifest: Awaited<ReturnType<typeof importFile>>;
    {
      // What a killed process would leave behind: nothing else of this one runs while it is copied.
      const snapshot = () => {
        if (!collecting) return;
        const copy = `${directory}-${snapshots.length}`;
        cpSync(directory, copy, { recursive: true });
        snapshots.push(copy);
      };
      await using store = await openStore(directory, { syncBytes: 1, onSync: snapshot });
      const junk = await fill(store, 4);
      manifest = await importFile(of(file), store, { signal, chunker });
      await store.pins.pin('production', manifest.cid);
      junk.push(...(await fill(store, 4)));
      nextSecond();
      collecting = true;
      await store.gc({ signal, lowBytes: 0 });
    }
    assert.ok(snapshots.length > 1);
    for (const copy of snapshots) {
      await using store = await openStore(copy);
      assert.deepEqual(await readAll(store, manifest), file);
      assert.deepEqual((await store.verify({ signal })).damaged, []);
    }
  });

  it('starts by itself above the high watermark', async () => {
    const directory = await fresh();
    const watermarks = { highBytes: 400_000, lowBytes: 200_000 };
    await using store = await openStore(directory, { watermarks, syncBytes: 20_000, graceSeconds: -1 });
    await fill(store, 200);
    await store.flush();
    // The first call may join a run that began before the last chunks came.
    for (let i = 0; i < 2; i++) await store.gc({ signal });
    assert.ok((await bytesOnDisk(directory)) < 330_000, `${await bytesOnDisk(directory)}`);
    assert.ok(store.stats().chunks < 200);
    await assert.rejects(openStore(await fresh(), { watermarks: { highBytes: 1, lowBytes: 2 } }), RangeError);
  });
});
