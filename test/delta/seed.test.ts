import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { chunkKey } from '../../src/content/chunk.ts';
import { openSeed, SeedUnusable } from '../../src/delta/seed.ts';
import { command } from '../../src/host/command.ts';
import { importFile } from '../../src/import/import-file.ts';
import { MemoryStore } from '../fakes/memory-store.ts';

const signal = AbortSignal.timeout(60_000);
/** The same bytes in each run: how many chunks two cuttings need until they agree depends on them. */
const noise = (length: number, seed: number) =>
  createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16)).update(Buffer.alloc(length));
const old = noise(6_000_000, 1);
/** A third of it is new; the rest has moved. */
const wanted = Buffer.concat([
  noise(7_001, 2),
  old.subarray(0, 2_000_000),
  noise(2_000_000, 3),
  old.subarray(4_000_000),
]);
let directory = '';
let seed = '';
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'bm-seed-'));
  seed = join(directory, 'old');
  await writeFile(seed, old);
});
after(() => rm(directory, { recursive: true, force: true }));

async function manifestOf(bytes: Uint8Array) {
  const source = (async function* () {
    yield bytes;
  })();
  return importFile(source, new MemoryStore(), { signal });
}

describe('a seed', () => {
  it('gives the chunks that are wanted, and keeps the rest to compare with', async () => {
    const store = new MemoryStore();
    const manifest = await manifestOf(wanted);
    const took: number[] = [];
    let seen = 0;
    await using found = await openSeed(seed, manifest, store, {
      signal,
      onChunk: ({ cid, size }) => {
        assert.notEqual(manifest.set.indexOf(cid), undefined);
        took.push(size);
      },
      onProgress: ({ bytes, total }) => {
        assert.ok(bytes >= seen && bytes <= old.length && total === old.length);
        seen = bytes;
      },
    });
    assert.equal(seen, old.length);
    const bytes = took.reduce((sum, size) => sum + size, 0);
    // Both halves but a chunk at each of their ends.
    assert.ok(bytes > 3_000_000 && bytes < 4_000_000, `${bytes} bytes were taken`);
    assert.deepEqual(
      new Set(store.chunks.keys()).difference(new Set(manifest.set.chunks.map((c) => chunkKey(c.cid)))),
      new Set(),
    );
    assert.equal(store.chunks.size, took.length);

    const { likeness } = found;
    const missing = [...manifest.set.chunks.entries()].filter(([, { cid }]) => !store.chunks.has(chunkKey(cid)));
    const [index] = missing.at(-1) as [number, unknown];
    const names = likeness?.of(index) ?? [];
    assert.ok(names.length > 0);
    const like = await likeness?.read(names, { signal });
    assert.ok(like && old.includes(like), 'what is like it are bytes of the seed');
  });

  it('is of no use any more once it changes', async () => {
    const changing = join(directory, 'changing');
    await writeFile(changing, old);
    const manifest = await manifestOf(wanted);
    const store = new MemoryStore();
    await using found = await openSeed(changing, manifest, store, { signal });
    const { likeness } = found;
    const index = manifest.set.chunks.findIndex(({ cid }) => !store.chunks.has(chunkKey(cid)));
    const names = likeness?.of(index) ?? [];
    assert.ok(names.length > 0);
    await using handle = await open(changing, 'r+');
    await handle.write(Buffer.alloc(old.length));
    assert.equal(await likeness?.read(names, { signal }), undefined);
    assert.deepEqual(likeness?.of(index), []);
  });

  it('may be larger than what is cut at a time', async () => {
    const whole = new MemoryStore();
    const sliced = new MemoryStore();
    const manifest = await manifestOf(wanted);
    await using _one = await openSeed(seed, manifest, whole, { signal });
    await using _other = await openSeed(seed, manifest, sliced, { signal, sliceBytes: 1_000_000 });
    const lost = new Set(whole.chunks.keys()).difference(new Set(sliced.chunks.keys()));
    // What lies across a border of slices.
    assert.ok(lost.size > 0 && lost.size <= 2 * 6, `${lost.size} chunks`);
  });

  it('is not read when nothing is missing', async () => {
    const store = new MemoryStore();
    const manifest = await importFile(seed, store, { signal });
    let read = false;
    const onProgress = () => {
      read = true;
    };
    await using found = await openSeed(seed, manifest, store, { signal, onProgress });
    assert.equal(found.likeness, undefined);
    assert.equal(read, false);
  });

  it('is a file or a block device, and nothing else', async (t) => {
    const manifest = await manifestOf(wanted);
    for (const path of [directory, '/dev/null', join(directory, 'none')]) {
      await assert.rejects(openSeed(path, manifest, new MemoryStore(), { signal }), SeedUnusable);
    }
    const device = await command(['losetup', '--find', '--show', '--read-only', seed]).catch(() => undefined);
    if (device === undefined) return t.skip('this machine gives no loop device');
    const path = device.stdout.trim();
    try {
      const store = new MemoryStore();
      await using _found = await openSeed(path, manifest, store, { signal });
      const bytes = [...store.chunks.values()].reduce((sum, chunk) => sum + chunk.length, 0);
      assert.ok(bytes > 3_000_000, `${bytes} bytes were taken from ${path}`);
    } finally {
      await command(['losetup', '--detach', path]);
    }
  });
});
