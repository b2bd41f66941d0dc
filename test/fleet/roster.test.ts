import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDescription } from '../../src/fleet/description.ts';
import { Roster } from '../../src/fleet/roster.ts';

const A = '12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8';
const B = '12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo';

test('members are known by peer id and name; strangers and nodes without a peer id are not', () => {
  const roster = rosterOf(`
  a: { site: s, peerId: ${A}, addresses: [/ip4/192.0.2.1/tcp/1] }
  b: { site: t, peerId: ${B} }
  c: { site: s }`);
  assert.deepEqual(
    roster.members.map((member) => member.name),
    ['a', 'b'],
  );
  assert.equal(roster.member(A)?.name, 'a');
  assert.equal(roster.member(B)?.site, 't');
  assert.equal(roster.byName('b')?.peerId, B);
  assert.equal(roster.byName('c'), undefined);
  for (const stranger of ['12D3KooWStranger', '', '__proto__', 'constructor']) {
    assert.equal(roster.member(stranger), undefined);
    assert.equal(roster.byName(stranger), undefined);
  }
});

test('the first peers to dial are the origins and seeds, else all, and never oneself', () => {
  const named = rosterOf(`
  a: { site: s, peerId: ${A}, roles: [seed], addresses: [/ip4/192.0.2.1/tcp/1, /ip6/fd00::1/tcp/1/p2p/${A}] }
  b: { site: s, peerId: ${B}, roles: [gateway], addresses: [/ip4/192.0.2.2/tcp/1] }`);
  assert.deepEqual(named.bootstrap(B), [`/ip4/192.0.2.1/tcp/1/p2p/${A}`, `/ip6/fd00::1/tcp/1/p2p/${A}`]);
  assert.deepEqual(named.bootstrap(A), [`/ip4/192.0.2.2/tcp/1/p2p/${B}`]);
});

function rosterOf(nodes: string): Roster {
  return new Roster(parseDescription(`fleet: f\nsites: { s: {}, t: {} }\nnodes:${nodes}\n`, 'fleet.yaml'));
}
