import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto';
import { describe, it } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { Neighbours } from '../../src/boot/neighbours.ts';
import { EnvelopeSchema } from '../../src/boot/segment_pb.ts';
import { openMessage, type SegmentContent, SegmentError, sealMessage } from '../../src/boot/segment-message.ts';

const keys = new Map(['a', 'b'].map((peerId) => [peerId, generateKeyPairSync('ed25519')]));
const identity = (peerId: string) => ({
  peerId,
  sign: (bytes: Uint8Array) => sign(null, bytes, keys.get(peerId)?.privateKey as KeyObject),
  verify: (other: string, bytes: Uint8Array, signature: Uint8Array) =>
    verify(null, bytes, keys.get(other)?.publicKey as KeyObject, signature),
});
const beat: SegmentContent = { case: 'heartbeat', value: { name: 'A', addresses: ['10.0.0.1'], gatewayPort: 8080 } };
const sender = (sequence: bigint, startedMs = 1000n, sentMs = 5000n) => ({ peerId: 'a', startedMs, sentMs, sequence });
const seal = async (...args: Parameters<typeof sender>) =>
  openMessage(await sealMessage(sender(...args), beat, identity('a')));

function code(run: () => void): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof SegmentError);
    return error.code;
  }
  return 'accepted';
}

describe('the neighbours of a segment', () => {
  it('are known from signed heartbeats, and gone after three missed ones', async () => {
    const neighbours = new Neighbours();
    const { body } = await seal(1n);
    neighbours.check(body, '10.0.0.1', 5000);
    assert.equal(neighbours.accept(body, 0).joined?.name, 'A');
    assert.equal(neighbours.live(3200).length, 1);
    assert.equal(neighbours.live(3201).length, 0);
    assert.equal(neighbours.expire(3201)[0]?.peerId, 'a');
    assert.equal(neighbours.wasMember('10.0.0.1'), true, 'a dead neighbour is no foreign DHCP server');
  });

  it('are not made by replays, by relays, or by clocks far off', async () => {
    const neighbours = new Neighbours();
    const first = (await seal(7n)).body;
    neighbours.accept(first, 0);
    const check = async (args: Parameters<typeof sender>, source = '10.0.0.1', clock = 5000) => {
      const { body } = await seal(...args);
      return code(() => neighbours.check(body, source, clock));
    };
    assert.equal(await check([7n]), 'SEGMENT_STALE');
    assert.equal(await check([6n]), 'SEGMENT_STALE');
    assert.equal(await check([9n, 999n]), 'SEGMENT_STALE', 'of an earlier run of that node');
    assert.equal(await check([8n]), 'accepted');
    assert.equal(await check([1n, 2000n]), 'accepted', 'it was restarted');
    assert.equal(await check([8n], '10.0.0.66'), 'SEGMENT_SOURCE');
    assert.equal(await check([8n], '10.0.0.1', 5000 + 600_001), 'SEGMENT_CLOCK');
  });

  it('cannot be forged: changed words, a foreign key and no signature fail', async () => {
    const bytes = await sealMessage(sender(1n), beat, identity('a'));
    assert.equal(await openMessage(bytes).verify(identity('b')), true);
    for (let at = 0; at < bytes.length; at++) {
      const changed = bytes.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      let believed: unknown;
      try {
        const opened = openMessage(changed);
        if (keys.has(opened.body.peerId) && (await opened.verify(identity('b')))) believed = opened.body;
      } catch (error) {
        assert.ok(error instanceof SegmentError);
      }
      // Protobuf reads some spellings of the envelope alike; what it says is what was signed.
      if (believed !== undefined) assert.deepEqual(believed, openMessage(bytes).body, `byte ${at} can be changed`);
    }
    const forged = await sealMessage({ ...sender(1n), peerId: 'b' }, beat, identity('a'));
    assert.equal(await openMessage(forged).verify(identity('b')), false);
    const bare = fromBinary(EnvelopeSchema, bytes).body;
    assert.equal(identity('b').verify('a', bare, new Uint8Array()), false);
    assert.equal(
      code(() => openMessage(new Uint8Array(1401))),
      'SEGMENT_SIZE',
    );
  });

  it('survive 100,000 hostile messages', async () => {
    const real = await sealMessage(sender(1n), beat, identity('a'));
    const hostile = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.array(fc.tuple(fc.nat(real.length - 1), fc.nat(255)), { maxLength: 6 }).map((changes) => {
        const copy = real.slice();
        for (const [at, value] of changes) copy[at] = value;
        return copy;
      }),
    );
    fc.assert(
      fc.property(hostile, (bytes) => {
        const neighbours = new Neighbours();
        code(() => {
          const { body } = openMessage(bytes);
          neighbours.check(body, '10.0.0.1', 5000);
          neighbours.accept(body, 0);
        });
      }),
      { numRuns: 100_000 },
    );
  });
});
