import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { compressed, decompressed, isLikelyCompressible } from '../../src/content/compression.ts';

const text = Buffer.from('every machine that has booted can boot the next one. '.repeat(1000));

describe('a chunk', () => {
  it('is compressed when that pays, and comes back', async () => {
    const { encoding, bytes } = (await compressed(text)) ?? assert.fail();
    assert.equal(encoding, 'zstd');
    assert.ok(bytes.length < text.length / 10);
    assert.deepEqual(await decompressed(bytes, text.length), text);
  });

  it('is left alone when it is random, empty, or saves too little', async () => {
    for (const size of [0, 1, 127, 2048, 65_536]) assert.equal(await compressed(randomBytes(size)), undefined);
    const slightly = Buffer.concat([randomBytes(60_000), Buffer.alloc(5000)]);
    assert.equal(await compressed(slightly), undefined);
  });

  it('that is random is told apart by the probe, one of machine code or text is not', () => {
    for (let i = 0; i < 1000; i++) assert.equal(isLikelyCompressible(randomBytes(65_536)), false);
    assert.ok(isLikelyCompressible(text));
  });
});

describe('a frame', () => {
  it('of any bytes says nothing, or the bytes of the size that was asked for', async () => {
    const frame = zstdCompressSync(text);
    const altered = fc.tuple(fc.nat(frame.length - 1), fc.nat(255)).map(([at, byte]) => {
      const wrong = Buffer.from(frame);
      wrong[at] = byte;
      return wrong;
    });
    const noise = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.concat([frame.subarray(0, 8), bytes]));
    await fc.assert(
      fc.asyncProperty(fc.oneof(altered, noise), async (bytes) => {
        const found = await decompressed(bytes, text.length);
        assert.ok(found === undefined || found.length === text.length);
      }),
      { numRuns: 10_000 },
    );
  });

  it('that holds more, or less, than was said, or is followed by something, is refused', async () => {
    const frame = zstdCompressSync(text);
    for (const size of [0, 1, text.length - 1, text.length + 1])
      assert.equal(await decompressed(frame, size), undefined);
    assert.equal(await decompressed(Buffer.concat([frame, randomBytes(4)]), text.length), undefined);
    const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024));
    assert.equal(await decompressed(bomb, 65_536), undefined);
  });
});
