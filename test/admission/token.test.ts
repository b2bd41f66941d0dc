import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { AdmissionRefused } from '../../src/admission/refusal.ts';
import { readToken, type Token, writeToken } from '../../src/admission/token.ts';
import { peerIds } from '../fakes/issuing-fleet.ts';

const [peerId = ''] = await peerIds(1);
const token: Token = {
  rootDigest: 'ab'.repeat(32),
  peerId,
  addresses: ['/ip4/192.0.2.1/tcp/4003', '/ip6/2001:db8::1/tcp/4003'],
  secret: new Uint8Array(16).fill(7),
  notAfter: 1_800_000_000,
};
const refused = (error: unknown) => error instanceof AdmissionRefused && error.reason === 'token';

suite('token', () => {
  test('is one word for a command line, and says what it was made of', () => {
    const text = writeToken(token);
    assert.match(text, /^bm1\.[\w-]{100,400}$/);
    assert.deepEqual(readToken(`  ${text}\n`), { ...token, secret: Buffer.from(token.secret) });
  });

  test('that was not copied whole is told from one that was never one', () => {
    const text = writeToken(token);
    for (const part of [text.slice(0, -1), text.slice(0, 20), `${text}x`, text.replace('bm1.C', 'bm1.D')]) {
      assert.throws(() => readToken(part), /copy it again/, part);
    }
    assert.throws(() => readToken('hello'), /fleet invite/);
    assert.throws(() => readToken(`bm1.${'A'.repeat(5000)}`), refused);
  });

  test('whatever the text is, it is read or refused', () => {
    const body = fc.oneof(fc.string(), fc.base64String(), fc.constant(''));
    fc.assert(fc.property(body, (text) => assert.throws(() => readToken(`bm1.${text}`), refused)));
  });
});
