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
  device: false,
  endpoints: [],
});
const byKey = (a: OverlayMember, b: OverlayMember) => a.publicKey.localeCompare(b.publicKey);
const ofPlan = (own: OverlayMember, members: readonly OverlayMember[]) =>
  Object.fromEntries(
    planPeers(own, members, byKey).map(({ publicKey, allowedIps }) => [publicKey, allowedIps.join(' ')]),
  );

/** Whom a node sends a packet for this address, and whom it believes that it comes from: the longest block. */
function peerFor(own: OverlayMember, members: readonly OverlayMember[], to: OverlayMember): string | undefined {
  const plan = planPeers(own, members, byKey);
  const having = (block: string) => plan.find(({ allowedIps }) => allowedIps.includes(block))?.publicKey;
  return having(`${to.address}/128`) ?? having(to.siteNetwork);
}

suite('peer plan', () => {
  const [a1, a2, a3] = [member('1', 'a'), member('2', 'a'), member('3', 'a', true)];
  const [b4, b5, b6] = [member('4', 'b'), member('5', 'b', true), member('6', 'b', true)];
  const [c7, c8] = [member('7', 'c'), member('8', 'c')];
  const all = [a1, a2, a3, b4, b5, b6, c7, c8];

  test('of a node is its site, with what is further behind the site’s gateway', () => {
    assert.deepEqual(ofPlan(b4, all), {
      5: 'fd00:0:0:a::/64 fd00:0:0:b::5/128 fd00:0:0:c::/64',
      6: 'fd00:0:0:b::6/128',
    });
  });

  test('of a node whose site has no gateway is its site, and the first gateway of all', () => {
    assert.deepEqual(ofPlan(c7, all), {
      3: 'fd00:0:0:a::/64 fd00:0:0:a::3/128 fd00:0:0:b::/64',
      8: 'fd00:0:0:c::8/128',
    });
    assert.deepEqual(ofPlan(c7, [a1, c7, c8]), { 8: 'fd00:0:0:c::8/128' }, 'or nothing more where there is none');
  });

  test('of a gateway is its site, and the gateways of others; the first knows those who have none', () => {
    assert.deepEqual(ofPlan(a3, all), {
      1: 'fd00:0:0:a::1/128',
      2: 'fd00:0:0:a::2/128',
      5: 'fd00:0:0:b::/64 fd00:0:0:b::5/128',
      6: 'fd00:0:0:b::6/128',
      7: 'fd00:0:0:c::7/128',
      8: 'fd00:0:0:c::8/128',
    });
    assert.deepEqual(ofPlan(b6, all), {
      3: 'fd00:0:0:a::/64 fd00:0:0:a::3/128 fd00:0:0:c::/64',
      4: 'fd00:0:0:b::4/128',
      5: 'fd00:0:0:b::5/128',
    });
  });

  test('of a device is its gateway, behind which are all; the others have it behind that', () => {
    const laptop = { ...member('9', 'a'), device: true };
    assert.deepEqual(ofPlan(laptop, [...all, laptop]), {
      3: 'fd00:0:0:a::/64 fd00:0:0:a::3/128 fd00:0:0:b::/64 fd00:0:0:c::/64',
    });
    assert.deepEqual(
      ofPlan(a1, [...all, laptop])['3'],
      'fd00:0:0:a::3/128 fd00:0:0:a::9/128 fd00:0:0:b::/64 fd00:0:0:c::/64',
    );
    assert.equal(ofPlan(a3, [...all, laptop])['9'], 'fd00:0:0:a::9/128');
  });

  test('a packet arrives from whom it is believed, on every way between any two, and no address has two peers', () => {
    const kind = fc.constantFrom('node', 'gateway', 'device');
    const someone = fc.record({ site: fc.constantFrom('a', 'b', 'c'), kind });
    fc.assert(
      fc.property(fc.array(someone, { minLength: 2, maxLength: 12 }), (facts) => {
        const members = facts.map(({ site, kind }, n) => ({
          ...member(n.toString(16), site, kind === 'gateway'),
          device: kind === 'device',
        }));
        const byPublicKey = new Map(members.map((one) => [one.publicKey, one]));
        for (const own of members) {
          const blocks = planPeers(own, members, byKey).flatMap(({ allowedIps }) => allowedIps);
          assert.equal(new Set(blocks).size, blocks.length);
          assert.ok(own.device || !blocks.includes(own.siteNetwork), 'the own site is reached node by node');
        }
        for (const from of members) {
          for (const to of members) {
            if (from === to) continue;
            const plain = from.site === to.site && !from.device && !to.device;
            const way = plain || members.some(({ gateway }) => gateway);
            let at = from;
            let hops = 0;
            while (at !== to && hops < 5) {
              const next = byPublicKey.get(peerFor(at, members, to) ?? '');
              if (next === undefined) break;
              assert.equal(peerFor(next, members, from), at.publicKey, 'and back the same way');
              at = next;
              hops += 1;
            }
            assert.equal(at === to, way, `${from.publicKey} → ${to.publicKey} of ${JSON.stringify(facts)}`);
          }
        }
      }),
    );
  });
});
