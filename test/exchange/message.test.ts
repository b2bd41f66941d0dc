import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { chunkCid, DAG_PB, RAW } from '../../src/content/chunk.ts';
import { MAX_LIKE_CHUNKS } from '../../src/delta/likeness.ts';
import {
  decodeMessage,
  encodeMessage,
  MalformedMessage,
  MESSAGE_LIMITS,
  type Message,
} from '../../src/exchange/message.ts';

const cid = fc
  .tuple(fc.uint8Array({ maxLength: 8 }), fc.constantFrom(RAW, DAG_PB))
  .map(([seed, codec]) => chunkCid(seed, codec));
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const list = fc.array(u32, { maxLength: 20 });
const places = (chunks: number) => fc.array(fc.nat(Math.max(0, chunks - 1)), { maxLength: chunks === 0 ? 0 : 20 });
const priority = fc.constantFrom('urgent' as const, 'foreground' as const, 'background' as const);
const item = fc.record({
  id: u32,
  of: fc.oneof(fc.record({ handle: u32, index: u32 }), fc.record({ cid })),
  priority,
  like: fc.array(cid, { maxLength: MAX_LIKE_CHUNKS }),
});
const exactly = (length: number) => ({ minLength: length, maxLength: length });
const subscribe = fc.nat(200).chain((chunks) =>
  fc.record({
    kind: fc.constant('subscribe' as const),
    handle: u32,
    set: cid,
    chunks: fc.constant(chunks),
    have: fc.oneof(fc.constant('all' as const), fc.uint8Array({ maxLength: Math.ceil(chunks / 8) })),
    wants: fc.boolean(),
    outside: fc.boolean(),
    claimed: places(chunks),
  }),
);
const have = fc.record({
  kind: fc.constant('have' as const),
  handle: u32,
  added: places(1000),
  claimed: places(1000),
  unclaimed: places(1000),
  lost: places(1000),
  wants: fc.boolean(),
  outside: fc.boolean(),
});
const ticket = fc.boolean().chain((door) =>
  fc.record({
    kind: fc.constantFrom('tls' as const, 'plain' as const),
    port: door ? fc.integer({ min: 1, max: 0xffff }) : fc.constant(0),
    id: fc.uint8Array(exactly(door ? 16 : 0)),
    secret: fc.uint8Array(exactly(door ? 32 : 0)),
    diallerSends: fc.boolean(),
  }),
);
const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record({ kind: fc.constant('hello' as const), version: u32, accepts: u32, lanes: u32 }),
  fc.record({ kind: fc.constant('lane-ask' as const), lanes: u32 }),
  fc.record({ kind: fc.constant('lane-ticket' as const), ticket: fc.option(ticket, { nil: undefined }) }),
  subscribe,
  fc.record({ kind: fc.constantFrom('decline' as const, 'unsubscribe' as const), handle: u32 }),
  have,
  fc.record({ kind: fc.constant('uplink' as const), down: fc.boolean(), up: fc.boolean() }),
  fc.record({ kind: fc.constant('request' as const), items: fc.array(item, { maxLength: 10 }) }),
  fc.record({ kind: fc.constant('cancel' as const), ids: list }),
  fc.record({ kind: fc.constant('ended' as const), missing: list, busy: list, cancelled: list }),
);

/** What decoding gives must be a message that encodes again: anything else is refused as malformed, and nothing throws otherwise. */
function survives(bytes: Uint8Array): void {
  try {
    encodeMessage(decodeMessage(bytes));
  } catch (error) {
    if (!(error instanceof MalformedMessage)) throw error;
  }
}

suite('exchange messages', () => {
  test('property: a message comes back as it was', () => {
    fc.assert(
      fc.property(message, (one) => {
        const back = decodeMessage(encodeMessage(one));
        assert.deepEqual(plain(back), plain(one));
      }),
      { numRuns: 5_000 },
    );
  });

  test('property: 10^5 hostile messages are decoded or refused, never worse', () => {
    const noise = fc.uint8Array({ maxLength: 300 });
    const bent = fc.tuple(message, fc.nat(), fc.nat(255)).map(([one, at, byte]) => {
      const bytes = encodeMessage(one);
      if (bytes.length > 0) bytes[at % bytes.length] = byte;
      return bytes;
    });
    const cut = fc.tuple(message, fc.nat()).map(([one, at]) => {
      const bytes = encodeMessage(one);
      return bytes.subarray(0, at % (bytes.length + 1));
    });
    fc.assert(fc.property(fc.oneof(noise, bent, cut), survives), { numRuns: 100_000 });
  });

  test('limits hold', () => {
    const base = {
      kind: 'subscribe',
      handle: 1,
      set: chunkCid(new Uint8Array()),
      wants: false,
      outside: false,
    } as const;
    const refused: Message[] = [
      { ...base, chunks: MESSAGE_LIMITS.chunks + 1, have: 'all', claimed: [] },
      { ...base, chunks: 8, have: new Uint8Array(2), claimed: [] },
      { ...base, chunks: 8, have: 'all', claimed: [8] },
      { kind: 'cancel', ids: Array.from({ length: MESSAGE_LIMITS.batch + 1 }, (_, n) => n) },
    ];
    for (const one of refused) assert.throws(() => decodeMessage(encodeMessage(one)), MalformedMessage);
    assert.throws(() => decodeMessage(new Uint8Array(MESSAGE_LIMITS.bytes + 1)), MalformedMessage);
    assert.throws(() => decodeMessage(new Uint8Array()), MalformedMessage);
    const fullest: Message = {
      ...base,
      chunks: MESSAGE_LIMITS.chunks,
      have: new Uint8Array(MESSAGE_LIMITS.chunks / 8).fill(1),
      claimed: [],
    };
    assert.equal(decodeMessage(encodeMessage(fullest)).kind, 'subscribe');
  });
});

/** CIDs and bytes as text, so that two messages can be compared by value. */
function plain(one: Message): unknown {
  return JSON.parse(
    JSON.stringify(one, (_, value: unknown) =>
      value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value,
    ),
  );
}
