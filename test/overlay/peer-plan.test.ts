import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { type OverlayMember, planPeers } from '../../src/overlay/peer-plan.ts';

const member = (publicKey: string, site: string, gateway = false): OverlayMember => ({
  publicKey,
  address: `fd00:0:0:${site}::${publicKey}`,
  site,
  siteNetwork: `fd00:0:0:${site}::/64`,
  gateway,
  endpoints: [],
});
const byKey = (a: OverlayMember, b: OverlayMember) => a.publicKey.localeCompare(b.publicKey);
const ofPlan = (own: OverlayMember, ...members: OverlayMember[]) =>
  Object.fromEntries(
    planPeers(own, members, byKey).map(({ publicKey, allowedIps }) => [publicKey, allowedIps.join(' ')]),
  );

suite('peer plan', () => {
  test('is the own site, each by its address, and of other sites the gateways, one of them with the site', () => {
    const own = member('1', 'a');
    const all = [
      own,
      member('2', 'a'),
      member('3', 'a', true),
      member('4', 'b'),
      member('5', 'b', true),
      member('6', 'b', true),
    ];
    assert.deepEqual(ofPlan(own, ...all), {
      2: 'fd00:0:0:a::2/128',
      3: 'fd00:0:0:a::3/128',
      5: 'fd00:0:0:b::/64 fd00:0:0:b::5/128',
      6: 'fd00:0:0:b::6/128',
    });
  });

  test('gives no address to two peers, whoever belongs where', () => {
    const someone = fc.record({ site: fc.constantFrom('a', 'b', 'c'), gateway: fc.boolean() });
    fc.assert(
      fc.property(fc.array(someone, { minLength: 1, maxLength: 12 }), (facts) => {
        const all = facts.map(({ site, gateway }, n) => member(n.toString(16), site, gateway));
        const own = all[0] ?? member('0', 'a');
        const blocks = planPeers(own, all, byKey).flatMap(({ allowedIps }) => allowedIps);
        assert.equal(new Set(blocks).size, blocks.length);
        assert.ok(!blocks.includes(own.siteNetwork), 'the own site is reached node by node');
        assert.ok(!blocks.includes(`${own.address}/128`));
      }),
    );
  });
});
