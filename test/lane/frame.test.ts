import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { MAX_CHUNK_BYTES } from '../../src/content/chunk.ts';
import { encodeFrames, FRAME_HEADER_BYTES, type Frame, FrameReader, MalformedFrame } from '../../src/lane/frame.ts';

function reader(frames: Frame[], allowed: ReadonlyMap<number, number>, allocated: number[] = []): FrameReader {
  return new FrameReader({
    allow: (request, flags) => (flags === 0 ? (allowed.get(request) ?? 0) : 0),
    allocate: (length) => {
      allocated.push(length);
      return new Uint8Array(length);
    },
    onFrame: (frame) => void frames.push(frame),
  });
}

suite('lane frames', () => {
  test('property: frames come back whole however the stream is cut', () => {
    const frame = fc.record({
      request: fc.nat(1000),
      flags: fc.constant(0),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 40 }),
    });
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }),
        (sent, cuts) => {
          const bytes = encodeFrames(sent);
          const frames: Frame[] = [];
          const allowed = new Map(sent.map(({ request }) => [request, 40]));
          const whole = reader(frames, allowed);
          for (let at = 0, n = 0; at < bytes.length; n += 1) {
            const size = cuts[n % cuts.length] ?? 1;
            whole.push(bytes.subarray(at, at + size));
            at += size;
          }
          assert.equal(frames.length, sent.length);
          for (const [n, { request, bytes: body }] of frames.entries()) {
            assert.equal(request, sent[n]?.request);
            assert.deepEqual(Buffer.from(body), Buffer.from(sent[n]?.bytes ?? []));
          }
        },
      ),
    );
  });

  test('property: 10^5 hostile beginnings never make it allocate more than was asked for', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: FRAME_HEADER_BYTES, maxLength: 64 }), (bytes) => {
        const allocated: number[] = [];
        const allowed = new Map([[bytes[3] ?? 0, 16]]);
        try {
          reader([], allowed, allocated).push(bytes);
        } catch (error) {
          if (!(error instanceof MalformedFrame)) throw error;
        }
        assert.ok(allocated.every((length) => length <= 16));
      }),
      { numRuns: 100_000 },
    );
  });

  test('a frame that nobody asked for, is too long, empty, or flagged is refused before its bytes', () => {
    const allowed = new Map([[1, 10]]);
    const header = (request: number, flags: number, length: number) => {
      const bytes = encodeFrames([{ request, flags, bytes: new Uint8Array(1) }]).subarray(0, FRAME_HEADER_BYTES);
      new DataView(bytes.buffer, bytes.byteOffset).setUint32(8, length);
      return bytes;
    };
    for (const bad of [
      header(2, 0, 5),
      header(1, 0, 11),
      header(1, 0, 0),
      header(1, 1, 5),
      header(1, 0, MAX_CHUNK_BYTES + 1),
    ]) {
      const allocated: number[] = [];
      assert.throws(() => reader([], allowed, allocated).push(bad), MalformedFrame);
      assert.deepEqual(allocated, []);
    }
  });
});
