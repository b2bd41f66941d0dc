import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { suite, test } from 'node:test';
import { decode } from '@ipld/dag-pb';
import fc from 'fast-check';
import { chunkCid } from '../../src/content/chunk.ts';
import { readPlainNode } from '../../src/content/plain-node.ts';
import { layOut } from '../../src/content/unixfs-node.ts';

suite('plain node', () => {
  test('every node that we write is read, and says what the codec says', () => {
    for (const count of [0, 1, 5, 1024, 1025]) {
      const leaves = Array.from({ length: count }, () => ({ cid: chunkCid(randomBytes(8)), size: 1 + (count % 300) }));
      for (const { bytes } of layOut(leaves)) {
        const plain = readPlainNode(bytes);
        assert.ok(plain);
        agrees(bytes, plain);
      }
    }
  });

  test('of any bytes it reads what the codec reads, or nothing', () => {
    const node = layOut(Array.from({ length: 4 }, () => ({ cid: chunkCid(randomBytes(8)), size: 300 }))).at(-1);
    assert.ok(node);
    const edits = fc.array(fc.tuple(fc.nat(node.bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    const changed = edits.map((list) => {
      const bytes = Uint8Array.from(node.bytes);
      for (const [at, value] of list) bytes[at] = value;
      return bytes;
    });
    const cut = fc.nat(node.bytes.length).map((length) => node.bytes.subarray(0, length));
    let read = 0;
    fc.assert(
      fc.property(fc.oneof(changed, cut, fc.uint8Array({ maxLength: 200 })), (bytes) => {
        const plain = readPlainNode(bytes);
        if (plain === undefined) return;
        read += 1;
        agrees(bytes, plain);
      }),
      { numRuns: 20_000 },
    );
    assert.ok(read > 100);
  });
});

function agrees(bytes: Uint8Array, plain: NonNullable<ReturnType<typeof readPlainNode>>): void {
  const node = decode(bytes);
  assert.deepEqual(
    plain.links.map(String),
    node.Links.map(({ Hash }) => Hash.toString()),
  );
  assert.ok(plain.links.every((cid, n) => node.Links[n]?.Hash.equals(cid)));
  assert.deepEqual(Buffer.from(plain.data), Buffer.from(node.Data ?? []));
}
