import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { acquaintances, type Candidate } from '../../src/enrolment/acquaintance.ts';

const fleet = (sites: number, perSite: number): Candidate[] =>
  Array.from({ length: sites * perSite }, (_, n) => ({
    peerId: `peer-${n}`,
    site: `site-${n % sites}`,
    roles: n < sites ? ['gateway'] : [],
  }));

suite('acquaintances', () => {
  test('are all of a small fleet, but neither devices nor the node itself', () => {
    const members = fleet(2, 5);
    const device: Candidate = { peerId: 'laptop', site: 'site-0', roles: ['device'] };
    const [own] = members;
    assert.ok(own);
    assert.deepEqual(
      acquaintances(own, [...members, device])
        .map(({ peerId }) => peerId)
        .toSorted(),
      members
        .slice(1)
        .map(({ peerId }) => peerId)
        .toSorted(),
    );
  });

  test('of a large one are few, useful ones first, and all of them together make one network', () => {
    const members = fleet(10, 100);
    const links = new Map<string, string[]>();
    for (const own of members) {
      const met = acquaintances(own, members);
      assert.equal(met.length, 64 + 16);
      assert.equal(met.filter(({ site, roles }) => site !== own.site && roles.includes('gateway')).length, 9);
      links.set(
        own.peerId,
        met.map(({ peerId }) => peerId),
      );
    }
    const reached = new Set(['peer-500']);
    for (const peer of reached) for (const next of links.get(peer) ?? []) reached.add(next);
    assert.equal(reached.size, members.length);
    const degree = Map.groupBy([...links.values()].flat(), (peer) => peer);
    const ordinary = members
      .filter(({ roles }) => roles.length === 0)
      .map(({ peerId }) => degree.get(peerId)?.length ?? 0);
    assert.ok(Math.max(...ordinary) < 3 * 80, `${Math.max(...ordinary)} want to talk to one`);
  });
});
