import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { type GraceFacts, graceOf } from '../../src/enrolment/grace.ts';
import { Members } from '../../src/fleet/members.ts';
import { DAY_S, factsOf, IssuingFleet, peerIds, T0 } from '../fakes/issuing-fleet.ts';

const [peerId = ''] = await peerIds(1);
const ALONE: GraceFacts = { site: 'edge', admits: undefined, issuerInReach: false };
const days = (facts: Partial<ReturnType<typeof factsOf>>, node: Partial<GraceFacts> = {}) =>
  graceOf(factsOf({ peerId, ...facts }), { ...ALONE, ...node }) / DAY_S;

suite('grace', () => {
  test('is half a life, a day at least and thirty at most', () => {
    assert.equal(days({}), 15);
    assert.equal(days({ notAfter: T0 + 90 * DAY_S }), 30);
    assert.equal(days({ notAfter: T0 + DAY_S }), 1, 'of machines that are let in by their hardware');
  });

  test('is for the node’s own site, and only while no issuer is there', () => {
    assert.equal(days({ site: 'hq' }), 0);
    assert.equal(days({}, { site: undefined }), 0);
    assert.equal(days({}, { issuerInReach: true }), 0);
  });

  test('is not for those whom others depend on', () => {
    for (const role of ['gateway', 'origin', 'seed', 'device'] as const) assert.equal(days({ roles: [role] }), 0, role);
    assert.equal(days({ roles: ['canary', 'gateway'] }), 0);
    assert.equal(days({ roles: ['canary'] }), 15);
  });

  test('who may renew a certificate accepts it in any case, since it could not be renewed otherwise', () => {
    for (const issuerInReach of [true, false]) {
      assert.equal(days({}, { site: 'hq', admits: {}, issuerInReach }), 15);
      assert.equal(days({}, { site: 'hq', admits: { site: 'edge' }, issuerInReach }), 15);
      assert.equal(days({ site: 'hq' }, { site: 'edge', admits: { site: 'edge' }, issuerInReach }), 0);
      assert.equal(days({ roles: ['gateway'] }, { admits: {}, issuerInReach }), 0);
    }
  });

  test('is over in its time, and there is none for one that is revoked', () => {
    const fleet = new IssuingFleet();
    let now = T0 + 31 * DAY_S;
    let node = ALONE;
    const members = new Members({ trust: fleet.trust, now: () => now, grace: (one) => graceOf(one, node) });
    members.hear(fleet.certify({ peerId }).bytes);
    assert.ok(members.member(peerId));
    assert.equal(members.fault(peerId), undefined);
    node = { ...ALONE, issuerInReach: true };
    assert.equal(members.fault(peerId), 'expired');
    node = ALONE;
    now = T0 + 45 * DAY_S;
    assert.ok(members.member(peerId));
    now += 1;
    assert.equal(members.fault(peerId), 'expired');
    now = T0 + 31 * DAY_S;
    members.hear(fleet.revoke(peerId).bytes);
    assert.equal(members.member(peerId), undefined);
    assert.equal(members.fault(peerId), 'revoked');
  });
});
