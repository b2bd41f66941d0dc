import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { MEMBER_ROLES, readTrustList, TrustListInvalid, writeTrustList } from '../../src/fleet/trust-list.ts';
import { IssuingFleet } from '../fakes/issuing-fleet.ts';

const { trust } = new IssuingFleet();

const machine = { machine: 'mac:52:54:00:12:34:56', site: 'edge', name: 'edge-7', roles: [] };

suite('trust list', () => {
  test('is read as it was written', () => {
    for (const list of [trust, { ...trust, allow: [machine] }]) {
      assert.deepEqual(readTrustList(JSON.parse(writeTrustList(list).toString())), list);
    }
  });

  test('of a later version is read as far as it is understood', () => {
    assert.deepEqual(readTrustList({ format: 1, ...trust, more: true }), trust);
  });

  const [owner, edge] = trust.issuers;
  for (const [what, list] of [
    ['two sites of one number', { ...trust, sites: { hq: 1, edge: 1 } }],
    ['an issuer of an unknown site', { ...trust, issuers: [{ ...edge, site: 'moon' }] }],
    ['one key twice', { ...trust, issuers: [owner, { ...edge, key: owner?.key }] }],
    ['a machine that is none', { ...trust, allow: [{ ...machine, machine: 'mac:52:54:00:12:34' }] }],
    ['a machine of an unknown site', { ...trust, allow: [{ ...machine, site: 'moon' }] }],
    ['one machine twice', { ...trust, allow: [machine, { ...machine, name: 'other' }] }],
    ['an unknown role', { ...trust, issuers: [{ ...owner, roles: ['king'] }] }],
    ['no epoch', { ...trust, epoch: 0 }],
    ['another format', { ...trust, format: 2 }],
    ['a short fleet id', { ...trust, fleetId: '00' }],
    ['a name that is none', { ...trust, sites: { ...trust.sites, '../x': 9 } }],
  ] as const) {
    test(`is refused with ${what}`, () => {
      assert.throws(() => readTrustList({ format: 1, ...list }), TrustListInvalid);
    });
  }

  test('is not written when it is longer than its carrier takes', () => {
    const names = Array.from({ length: 1000 }, (_, n) => `issuer-of-a-certain-site-${n}`);
    const key = (n: number) => n.toString(16).padStart(64, '0');
    const issuers = names.map((name, n) => ({ name, key: key(n), roles: MEMBER_ROLES, maxDays: 30 }));
    assert.throws(() => writeTrustList({ ...trust, sites: manySites(), issuers }), /more than 262144 bytes/);
    assert.ok(writeTrustList({ ...trust, issuers }).length < 256 * 1024, 'a thousand issuers fit');
  });

  test('whatever the JSON is, it is read or refused', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (json) => {
        assert.throws(() => readTrustList(json), TrustListInvalid);
      }),
    );
  });
});

function manySites(): Record<string, number> {
  return Object.fromEntries(Array.from({ length: 4096 }, (_, n) => [`a-site-with-a-long-name-${n}`, n]));
}
