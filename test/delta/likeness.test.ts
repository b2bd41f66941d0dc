import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { chunkCid } from '../../src/content/chunk.ts';
import { type Manifest, manifestOf } from '../../src/content/manifest.ts';
import { layOut } from '../../src/content/unixfs-node.ts';
import { MAX_LIKE_BYTES } from '../../src/delta/compression.ts';
import { Likeness } from '../../src/delta/likeness.ts';
import { OldVersions } from '../../src/delta/old-versions.ts';
import { MemoryStore } from '../fakes/memory-store.ts';

const signal = AbortSignal.timeout(10_000);

/** A file of chunks that are known by a letter each: `a:100 b:50`. */
function file(text: string): Manifest {
  const leaves = text.split(' ').map((word) => {
    const [name = '', size] = word.split(':');
    return { cid: chunkCid(Buffer.from(name)), size: Number(size) };
  });
  return manifestOf(leaves, layOut(leaves));
}

function alike(wanted: Manifest, old: Manifest): Record<string, string> {
  const names = new Map(
    [...'abcdefghijklmnopqrstuvwxyzABC'].map((letter) => [chunkCid(Buffer.from(letter)).toString(), letter]),
  );
  const likeness = Likeness.between(wanted, { leaves: old.leaves, source: new MemoryStore() });
  const letter = (cid: { toString(): string }) => names.get(cid.toString()) ?? '?';
  return Object.fromEntries(
    wanted.set.chunks.map(({ cid }, index) => [letter(cid), likeness.of(index).map(letter).join('')]),
  );
}

describe('what a new chunk is like', () => {
  it('is what lies at its distance from the chunk before it that both files have', () => {
    const old = file('a:100 b:100 c:100 d:100 e:100');
    assert.deepEqual(alike(file('A:130 a:100 B:100 d:100 C:90'), old), { A: '', a: '', B: 'b', d: '', C: 'e' });
    // Two chunks became one, one became two.
    assert.deepEqual(alike(file('a:100 A:200 d:100 B:60 C:60'), old), { a: '', A: 'bc', d: '', B: 'e', C: 'e' });
  });

  it('is what lies at the same place where nothing is the same, and before the first that is', () => {
    const old = file('a:100 b:100 c:100');
    assert.deepEqual(alike(file('A:50 B:100 C:500'), old), { A: 'a', B: 'ab', C: 'bc' });
    assert.deepEqual(alike(file('A:50 B:100 c:100'), old), { A: 'a', B: 'b', c: '' });
  });

  it('is no more than may be sent along, and nothing twice', () => {
    const old = file('a:10 b:10 b:10 c:10 d:10 e:10');
    assert.deepEqual(alike(file('A:60'), old), { A: 'abc' });
    const large = MAX_LIKE_BYTES / 2;
    assert.deepEqual(alike(file('A:9999999'), file(`a:${large} b:${large} c:1`)), { A: 'ab' });
  });

  it('does not follow chunks that a file has again and again', () => {
    const old = file('z:10 a:100 z:10 b:100 z:10 c:100 z:10');
    assert.deepEqual(alike(file('z:10 A:100 z:10 b:100 z:10 C:100 z:10'), old), { z: 'z', A: 'a', b: '', C: 'c' });
  });
});

describe('old versions', () => {
  it('are compared by what they share; a manifest is like that of the version before', async () => {
    const store = new MemoryStore();
    const leaves = (changed: number) =>
      Array.from({ length: 3_000 }, (_, n) => {
        const text = n % 100 < changed ? `${n} of ${changed}` : String(n);
        return { cid: chunkCid(createHash('sha256').update(text).digest()), size: 1000 + (n % 7) };
      });
    const versions = [30, 2, 50].map((changed) => {
      const nodes = layOut(leaves(changed));
      return { manifest: manifestOf(leaves(changed), nodes), nodes };
    });
    for (const { nodes } of versions) for (const { cid, bytes } of nodes) await store.put(cid, bytes);
    const nodes = layOut(leaves(0));
    const wanted = manifestOf(leaves(0), nodes);
    const held = versions.map(({ manifest }) => manifest.cid);
    const old = new OldVersions({ store, candidates: () => [wanted.cid, chunkCid(Buffer.of(1)), ...held] });
    const likeness = await old.like(wanted, { signal });
    assert.equal(likeness?.ties, 3_000 * 0.98);
    assert.equal(await new OldVersions({ store, candidates: () => [] }).like(wanted, { signal }), undefined);

    const [second] = versions.slice(1);
    const next = new OldVersions({ store, candidates: () => held.slice(1) });
    const asked: string[][] = [];
    const blocks = new MemoryStore();
    for (const { cid, bytes } of nodes) await blocks.put(cid, bytes);
    const source = await next.nodes(
      wanted.cid,
      {
        get: async (cid, options) => {
          asked.push(next.likeNode(cid)?.names.map(String) ?? []);
          return blocks.get(cid, options);
        },
      },
      { signal },
    );
    const inOrder = [wanted.cid, ...wanted.nodes.filter((node) => !node.equals(wanted.cid))];
    for (const cid of inOrder) await source.get(cid, { signal });
    const before = second?.manifest.nodes.map(String) ?? [];
    assert.deepEqual(asked, [[before[3]], before.slice(0, 3), before.slice(0, 3), before.slice(1, 3)]);
    assert.equal(next.likeNode(wanted.cid), undefined);
  });
});
