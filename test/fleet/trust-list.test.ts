import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { readTrustList, TrustListInvalid, writeTrustList } from '../../src/fleet/trust-list.ts';
import { IssuingFleet } from '../fakes/issuing-fleet.ts';

const { trust } = new IssuingFleet();

suite('trust list', () => {
  test('is read as it was written', () => {
    assert.deepEqual(readTrustList(writeTrustList(trust)), trust);
  });

  const [owner, edge] = trust.issuers;
  for (const [what, list] of [
    ['two sites of one number', { ...trust, sites: { hq: 1, edge: 1 } }],
    ['an issuer of an unknown site', { ...trust, issuers: [{ ...edge, site: 'moon' }] }],
    ['one key twice', { ...trust, issuers: [owner, { ...edge, key: owner?.key }] }],
    ['an unknown role', { ...trust, issuers: [{ ...owner, roles: ['king'] }] }],
    ['an unknown field', { ...trust, more: true }],
    ['no epoch', { ...trust, epoch: 0 }],
    ['another format', { ...trust, format: 2 }],
    ['a short fleet id', { ...trust, fleetId: '00' }],
    ['a name that is none', { ...trust, sites: { ...trust.sites, '../x': 9 } }],
  ] as const) {
    test(`is refused with ${what}`, () => {
      const bytes = Buffer.from(JSON.stringify({ format: 1, ...list }));
      assert.throws(() => readTrustList(bytes), TrustListInvalid);
    });
  }

  test('is refused when it is longer than a list may be, before it is parsed', () => {
    assert.throws(() => readTrustList(Buffer.alloc(1024 * 1024, 0x20)), /more than 131072 bytes/);
  });

  test('whatever the bytes are, it is read or refused', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map((text) => Buffer.from(text)),
        ),
        (bytes) => {
          try {
            readTrustList(bytes);
          } catch (error) {
            assert.ok(error instanceof TrustListInvalid);
          }
        },
      ),
    );
  });
});
