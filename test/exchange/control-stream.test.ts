import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { type Stream, StreamMessageEvent } from '@libp2p/interface';
import fc from 'fast-check';
import { ControlStream } from '../../src/exchange/control-stream.ts';
import { MalformedMessage, MESSAGE_LIMITS, type Message } from '../../src/exchange/message.ts';

/** What a libp2p stream is to its user, with the other end in the test's hands. */
class FakeStream extends EventTarget {
  writableNeedsDrain = false;
  readonly sent: Uint8Array[] = [];
  aborted: Error | undefined;

  send(bytes: Uint8Array): boolean {
    this.sent.push(bytes);
    return !this.writableNeedsDrain;
  }

  abort(error: Error): void {
    this.aborted ??= error;
    this.dispatchEvent(new Event('close'));
  }

  deliver(bytes: Uint8Array): void {
    this.dispatchEvent(new StreamMessageEvent(bytes));
  }
}

function open() {
  const stream = new FakeStream();
  const heard: Message[] = [];
  const ends: (Error | undefined)[] = [];
  const control = new ControlStream(stream as unknown as Stream, {
    onMessage: (message) => void heard.push(message),
    onClose: (error) => void ends.push(error),
  });
  return { stream, heard, ends, control };
}

const unsubscribe = (handle: number): Message => ({ kind: 'unsubscribe', handle });

suite('control stream', () => {
  test('what is said in one turn leaves in one piece, and comes whole however it is cut', async () => {
    const from = open();
    const said = Array.from({ length: 50 }, (_, n) => unsubscribe(n * 1000));
    for (const message of said) from.control.send(message);
    await Promise.resolve();
    assert.equal(from.stream.sent.length, 1);
    const bytes = from.stream.sent[0] ?? new Uint8Array();
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (cuts) => {
        const to = open();
        for (let at = 0, n = 0; at < bytes.length; n += 1) {
          const size = cuts[n % cuts.length] ?? 1;
          to.stream.deliver(bytes.subarray(at, at + size));
          at += size;
        }
        assert.deepEqual(to.heard, said);
        assert.equal(to.control.carried, from.control.carried);
      }),
    );
  });

  test('a peer that does not read is waited for, with a bound, and then given up', async () => {
    const { stream, control, ends } = open();
    stream.writableNeedsDrain = true;
    control.send(unsubscribe(1));
    await Promise.resolve();
    assert.equal(stream.sent.length, 0);
    stream.writableNeedsDrain = false;
    stream.dispatchEvent(new Event('drain'));
    assert.equal(stream.sent.length, 1);
    stream.writableNeedsDrain = true;
    const long: Message = { kind: 'cancel', ids: Array.from({ length: MESSAGE_LIMITS.batch }, (_, n) => 2 ** 31 + n) };
    for (let n = 0; n < 4000 && stream.aborted === undefined; n += 1) control.send(long);
    assert.ok(stream.aborted);
    assert.deepEqual(ends, [undefined], 'not the peer’s fault');
  });

  test('property: 10^5 hostile beginnings end it as malformed, or are waited for; none is kept', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 24 }), (bytes) => {
        const { stream, ends } = open();
        stream.deliver(bytes);
        if (stream.aborted === undefined) return;
        assert.ok(stream.aborted instanceof MalformedMessage);
        assert.deepEqual(ends, [stream.aborted]);
        stream.deliver(bytes);
        assert.equal(ends.length, 1);
      }),
      { numRuns: 100_000 },
    );
  });
});
