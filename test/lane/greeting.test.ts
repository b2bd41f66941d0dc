import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { ANSWER_BYTES, answer, GREETING_BYTES, greet, prove, readGreeting, same } from '../../src/lane/greeting.ts';

const key = () => ({ id: randomBytes(16), secret: randomBytes(32) });

suite('plain lane greeting', () => {
  test('both ends prove the ticket to each other, and neither proof serves another time', () => {
    const ticket = key();
    const { bytes, nonce } = greet(ticket);
    const greeting = readGreeting(bytes);
    assert.ok(greeting);
    const { bytes: answered, expected } = answer(ticket, greeting);
    const proof = prove(ticket, nonce, answered);
    assert.ok(proof && same(proof, expected));
    for (const seen of [bytes, answered, proof]) assert.equal(Buffer.from(seen).includes(ticket.secret), false);
    // The same greeting again, as an eavesdropper would replay it: another nonce, another proof.
    assert.equal(same(answer(ticket, greeting).expected, proof), false);
    assert.equal(prove({ ...ticket, secret: key().secret }, nonce, answered), undefined);
    assert.equal(prove(ticket, randomBytes(32), answered), undefined);
    // The listener's own proof, sent back to it.
    assert.equal(same(answered.subarray(32), expected), false);
  });

  test('fuzz: what is no greeting, and no answer, is refused and nothing throws', () => {
    const ticket = key();
    const { bytes, nonce } = greet(ticket);
    const greeting = readGreeting(bytes);
    assert.ok(greeting);
    const good = answer(ticket, greeting).bytes;
    const length = fc.constantFrom(0, 1, GREETING_BYTES - 1, GREETING_BYTES, GREETING_BYTES + 1, ANSWER_BYTES);
    const noise = length.chain((n) => fc.uint8Array({ minLength: n, maxLength: n }));
    fc.assert(
      fc.property(
        noise,
        fc.nat(GREETING_BYTES - 1),
        fc.nat(ANSWER_BYTES - 1),
        fc.integer({ min: 1, max: 255 }),
        (any, a, b, bits) => {
          assert.equal(prove(ticket, nonce, any), undefined);
          const read = readGreeting(any);
          assert.ok(read === undefined || any.length === GREETING_BYTES);
          const changed = Uint8Array.from(bytes);
          changed[a] = (changed[a] ?? 0) ^ bits;
          assert.equal(readGreeting(changed) === undefined, a < 4, 'only the magic is checked here');
          const forged = Uint8Array.from(good);
          forged[b] = (forged[b] ?? 0) ^ bits;
          assert.equal(prove(ticket, nonce, forged), undefined);
        },
      ),
      { numRuns: 100_000 },
    );
  });
});
