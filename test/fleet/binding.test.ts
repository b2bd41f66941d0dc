import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { type BindingFacts, readBinding, sealBinding } from '../../src/fleet/binding.ts';
import { signingKeyOf } from '../../src/fleet/identity.ts';
import { openStatement, StatementRefused, sealStatement } from '../../src/fleet/statement.ts';
import { identities } from '../fakes/issuing-fleet.ts';

const FLEET = '00112233445566778899aabbccddeeff';
const [own, other] = await identities(2);
assert.ok(own && other);
const { peerId } = own;

function seal(facts: Partial<BindingFacts> = {}, by = own) {
  assert.ok(by);
  const places = {
    addresses: ['/ip4/192.0.2.7/tcp/4001', '/ip6/2001:db8::7/tcp/4001'],
    endpoints: ['192.0.2.7:51820'],
  };
  return sealBinding({ peerId, ...places, sequence: 1, ...facts }, signingKeyOf(by), FLEET);
}

function refused(reason: StatementRefused['reason']) {
  return (error: unknown) => error instanceof StatementRefused && error.reason === reason;
}

suite('binding', () => {
  test('says where its member is, by its own word alone', () => {
    const endpoints = ['[2001:db8::7]:51820', '192.0.2.7:1'];
    const { bytes, ...facts } = readBinding(openStatement(seal({ endpoints, sequence: 7 }).bytes), FLEET);
    assert.partialDeepStrictEqual(facts, { peerId, endpoints, sequence: 7 });
    assert.throws(() => seal({}, other), refused('signature'));
    assert.throws(() => readBinding(openStatement(bytes), 'ff'.repeat(16)), refused('fleet'));
    const { body } = openStatement(bytes);
    const certificate = sealStatement('certificate', body, signingKeyOf(own));
    assert.throws(() => readBinding(openStatement(certificate), FLEET), refused('malformed'));
  });

  for (const [what, facts] of [
    ['a name that a name server would be asked about', { addresses: ['/dns4/evil.example/tcp/4001'] }],
    ['a way through others', { addresses: [`/ip4/192.0.2.7/tcp/4001/p2p/${peerId}/p2p-circuit`] }],
    ['no TCP', { addresses: ['/ip4/192.0.2.7/udp/4001'] }],
    ['port 0', { addresses: ['/ip4/192.0.2.7/tcp/0'] }],
    ['what is no address', { addresses: ['; touch X'] }],
    ['too many addresses', { addresses: Array.from({ length: 9 }, (_, n) => `/ip4/192.0.2.${n}/tcp/1`) }],
    ['an endpoint with a line break', { endpoints: ['192.0.2.7:51820\nPostUp = touch X'] }],
    ['an endpoint of a wrong family', { endpoints: ['[192.0.2.7]:51820'] }],
    ['an endpoint without a port', { endpoints: ['192.0.2.7'] }],
    ['an endpoint with a name', { endpoints: ['evil.example:51820'] }],
  ] as const) {
    test(`is refused with ${what}`, () => {
      assert.throws(() => seal(facts), refused('malformed'));
    });
  }

  test('whatever its bytes are, it is read or refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (body) => {
        const statement = openStatement(sealStatement('binding', body, signingKeyOf(own)));
        assert.throws(() => readBinding(statement, FLEET), StatementRefused);
      }),
    );
  });
});
