import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { constants, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { MAX_CHUNK_BYTES } from '../../src/content/chunk.ts';
import { BadCompression, compress, decompress, plainSize } from '../../src/delta/compression.ts';

const noise = randomBytes(150_000);
const text = Buffer.from('one line of a configuration file\n'.repeat(2_000));
/** As a rebuilt module is like its predecessor: a few bytes differ, a few are new. */
const rebuilt = Buffer.concat([
  noise.subarray(20_000, 60_000),
  randomBytes(50),
  noise.subarray(60_050, 100_000),
  randomBytes(3),
  noise.subarray(100_000, 101_000),
]);

describe('a compressed chunk', () => {
  it('comes back as it was, whatever its size, alone or against older bytes', async () => {
    for (const plain of [text, text.subarray(0, 1), Buffer.alloc(MAX_CHUNK_BYTES), noise.subarray(0, 300), rebuilt]) {
      for (const like of [undefined, noise, text.subarray(0, 5)]) {
        const bytes = await compress(plain, { level: 6, like });
        assert.equal(plainSize(bytes), plain.length);
        assert.deepEqual(await decompress(bytes, { size: plain.length, like }), plain);
        assert.deepEqual(await decompress(bytes, { like }), plain);
      }
    }
  });

  it('costs what is new in it when its reader has what it is like', async () => {
    const alone = await compress(rebuilt, { level: 6 });
    const against = await compress(rebuilt, { level: 6, like: noise });
    assert.ok(alone.length > 80_000, `${alone.length} bytes alone`);
    assert.ok(against.length < 250, `${against.length} bytes against the old ones`);
    await assert.rejects(decompress(against, { size: rebuilt.length }), BadCompression);
  });

  it('is refused when it is longer or shorter than promised, cut off, followed by more, or not one frame', async () => {
    const bytes = await compress(text, { level: 3 });
    const refuse = (frame: Uint8Array, size?: number) => assert.rejects(decompress(frame, { size }), BadCompression);
    await refuse(bytes, text.length - 1);
    await refuse(bytes, text.length + 1);
    await refuse(bytes.subarray(0, -1), text.length);
    await refuse(Buffer.concat([bytes, Buffer.of(0)]), text.length);
    await refuse(Buffer.concat([bytes, bytes]));
    await refuse(new Uint8Array());
    await refuse(text);
    // A header that lies: 1 byte more than there is, and 1 less.
    for (const lie of [1, -1]) {
      const forged = Buffer.from(bytes);
      forged.writeUInt32LE(forged.readUInt32LE(5) + lie, 5);
      assert.equal(plainSize(forged), text.length + lie);
      await refuse(forged);
    }
  });

  it('that would expand into far more is refused before anything is allocated for it', async () => {
    const huge = Buffer.alloc(64 * MAX_CHUNK_BYTES);
    const bomb = zstdCompressSync(huge);
    const wide = zstdCompressSync(huge.subarray(0, MAX_CHUNK_BYTES + 1), {
      params: { [constants.ZSTD_c_windowLog]: 27 },
    });
    // Says that it is small, and needs a window of 128 MiB to be read.
    const window = Buffer.from('28b52ffd4088000001000000', 'hex');
    window.writeUInt8(17 << 3, 5);
    const before = process.memoryUsage();
    for (const frame of [bomb, wide, window]) {
      await assert.rejects(decompress(frame), BadCompression);
      await assert.rejects(decompress(frame, { size: 65_536 }), BadCompression);
    }
    const { external, arrayBuffers } = process.memoryUsage();
    assert.ok(external - before.external < 4e6 && arrayBuffers - before.arrayBuffers < 4e6);
  });

  it('that a stranger made is refused, or gives no more than was promised (10^4 cases; 10^5 as frames, in test/exchange)', async () => {
    const whole = await compress(text.subarray(0, 3_000), { level: 3 });
    const against = await compress(rebuilt.subarray(0, 3_000), { level: 3, like: noise });
    const seeds = [whole, against, zstdCompressSync(text.subarray(0, 100)), zstdCompressSync(noise.subarray(0, 200))];
    const flips = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 6 });
    const mutated = fc.tuple(fc.constantFrom(...seeds), flips, fc.nat(400)).map(([seed, changes, cut]) => {
      const frame = Buffer.from(seed.subarray(0, Math.max(1, seed.length - (cut > 200 ? 0 : cut))));
      for (const [at, value] of changes) frame[at % frame.length] = value;
      return frame;
    });
    const frame = fc.oneof(
      { weight: 4, arbitrary: mutated },
      { weight: 1, arbitrary: fc.uint8Array({ maxLength: 64 }) },
    );
    let read = 0;
    const property = fc.asyncProperty(frame, fc.boolean(), fc.boolean(), async (bytes, sized, old) => {
      const size = sized ? 3_000 : undefined;
      try {
        const plain = await decompress(bytes, { size, like: old ? noise : undefined });
        assert.ok(plain.length === size || (size === undefined && plain.length <= MAX_CHUNK_BYTES));
        read += 1;
      } catch (error) {
        assert.ok(error instanceof BadCompression, String(error));
      }
    });
    await fc.assert(property, { numRuns: 10_000 });
    assert.ok(read > 100, `${read} frames were readable: the mutations are too rough to test the decoder`);
  });
});
