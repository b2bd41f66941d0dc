import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { sealBinding } from '../../src/fleet/binding.ts';
import { issueCertificate } from '../../src/fleet/certificate.ts';
import { signingKeyOf } from '../../src/fleet/identity.ts';
import { Members } from '../../src/fleet/members.ts';
import { openStatement, StatementRefused, sealStatement } from '../../src/fleet/statement.ts';
import { DAY_S, factsOf, IssuingFleet, identities, newWireguardKey, peerIds, T0 } from '../fakes/issuing-fleet.ts';

const fleet = new IssuingFleet();
const ids = await peerIds(6);
const [a = '', b = '', c = ''] = ids;

function hearing(...statements: { readonly bytes: Uint8Array }[]): Members {
  const members = new Members({ trust: fleet.trust, now: () => T0 + DAY_S });
  for (const { bytes } of statements) members.hear(bytes);
  return members;
}

function refused(reason: StatementRefused['reason']) {
  return (error: unknown) => error instanceof StatementRefused && error.reason === reason;
}

suite('members', () => {
  test('one joins, is renewed, and leaves when it is revoked', () => {
    const members = hearing();
    const first = fleet.certify({ peerId: a }, 'edge');
    assert.deepEqual(members.hear(first.bytes), { joined: [first], renewed: [], left: [] });
    assert.deepEqual(members.member(a), first);
    const next = fleet.certify({ peerId: a, notBefore: T0 + DAY_S, notAfter: T0 + 31 * DAY_S }, 'edge');
    assert.deepEqual(members.hear(next.bytes), { joined: [], renewed: [next], left: [] });
    assert.equal(members.hear(first.bytes), undefined, 'older than what is known');
    assert.equal(members.hear(next.bytes), undefined, 'known');
    const rewritten = Buffer.concat([next.bytes, Buffer.of(0x78, 0x01)]);
    assert.equal(members.hear(rewritten), undefined, 'known, with an unknown field beside it');
    assert.deepEqual(members.hear(fleet.revoke(a, { by: 'edge' }).bytes)?.left, [next]);
    assert.equal(members.member(a), undefined);
    assert.equal(members.fault(a), 'revoked');
    assert.equal([...members.statements()].length, 2);
  });

  test('a revoked peer stays revoked under another certificate, and under the same one encoded anew', () => {
    const before = fleet.certify({ peerId: a });
    const members = hearing(before, fleet.revoke(a));
    const { body } = openStatement(before.bytes);
    // An unknown field at the end: other bytes, and so another hash, that say the same.
    const anew = sealStatement('certificate', Buffer.concat([body, Buffer.of(0x78, 0x01)]), fleet.key('owner'));
    const later = fleet.certify({ peerId: a, notBefore: T0 + DAY_S });
    for (const bytes of [anew, later.bytes, before.bytes]) {
      assert.deepEqual(members.hear(bytes)?.joined ?? [], []);
      assert.equal(members.member(a), undefined);
    }
  });

  test('a site’s issuer revokes in its site alone', () => {
    const members = hearing(fleet.certify({ peerId: a, site: 'hq' }), fleet.certify({ peerId: b }));
    members.hear(fleet.revoke(a, { by: 'edge' }).bytes);
    assert.ok(members.member(a), 'not of its site, whatever it says');
    assert.throws(() => fleet.revoke(a, { by: 'edge', site: 'hq' }), refused('site'));
    members.hear(fleet.revoke(b, { by: 'owner', site: 'hq' }).bytes);
    assert.equal(members.member(b), undefined, 'an issuer for all sites revokes in all');
  });

  test('a WireGuard key is that of the member that had it first, whoever is heard first', () => {
    const key = newWireguardKey();
    const victim = fleet.certify({ peerId: a, wireguardKey: key, since: T0 - DAY_S });
    const thief = fleet.certify({ peerId: b, wireguardKey: key });
    for (const order of [
      [victim, thief],
      [thief, victim],
    ]) {
      const members = hearing(...order);
      assert.deepEqual(members.members, [victim]);
      assert.equal(members.fault(b), 'taken');
    }
    const members = hearing(thief);
    assert.deepEqual(members.hear(victim.bytes), { joined: [victim], renewed: [], left: [thief] });
    assert.deepEqual(members.hear(fleet.revoke(a).bytes), { joined: [thief], renewed: [], left: [victim] });
  });

  test('where one is, is known of those with a certificate, and the latest word counts', async () => {
    const [own, stranger] = await identities(2);
    assert.ok(own && stranger);
    const at = (port: number, by = own) => {
      const addresses = [`/ip4/192.0.2.1/tcp/${port}`];
      const facts = { peerId: by.peerId, addresses, endpoints: [], sequence: port };
      return sealBinding(facts, signingKeyOf(by), fleet.trust.fleetId);
    };
    const members = hearing(fleet.certify({ peerId: own.peerId }));
    assert.throws(() => members.hear(at(1, stranger).bytes), refused('stranger'));
    assert.equal(members.hear(at(2).bytes)?.bound?.sequence, 2);
    assert.equal(members.hear(at(1).bytes), undefined, 'older');
    assert.equal(members.hear(at(2).bytes), undefined, 'known');
    members.hear(fleet.certify({ peerId: own.peerId, notBefore: T0 + 1 }).bytes);
    assert.equal(members.binding(own.peerId)?.sequence, 2, 'a renewal does not move it');
    members.judge(fleet.trust);
    assert.equal(members.binding(own.peerId)?.sequence, 2);
    assert.equal([...members.statements()].length, 2);
  });

  test('nobody is a member before and after the time of its certificate', () => {
    let now = T0 - DAY_S;
    const members = new Members({ trust: fleet.trust, now: () => now });
    members.hear(fleet.certify({ peerId: a }).bytes);
    assert.equal(members.fault(a), 'early');
    now = T0 + DAY_S;
    assert.equal(members.members.length, 1);
    assert.equal(members.fault(a), undefined);
    now = T0 + 31 * DAY_S;
    assert.equal(members.member(a), undefined);
    assert.equal(members.fault(a), 'expired');
  });

  test('a newer trust list judges all of them again', () => {
    const ofOwner = fleet.certify({ peerId: a });
    const ofEdge = fleet.certify({ peerId: b }, 'edge');
    const members = hearing(ofOwner, ofEdge, fleet.certify({ peerId: c }), fleet.revoke(c));
    const [owner] = fleet.trust.issuers;
    assert.ok(owner);
    assert.deepEqual(members.judge({ ...fleet.trust, issuers: [owner] }).left, [ofEdge]);
    assert.equal(members.fault(c), 'revoked', 'what was revoked stays so');
    assert.deepEqual(members.judge({ ...fleet.trust, epoch: fleet.trust.epoch + 1 }).left, [ofOwner]);
    assert.deepEqual(members.members, []);
  });

  test('there are so many at most; those whose time is over make room', () => {
    let now = T0;
    const members = new Members({ trust: fleet.trust, now: () => now }, { most: 2 });
    members.hear(fleet.certify({ peerId: a }).bytes);
    members.hear(fleet.certify({ peerId: b }).bytes);
    const third = fleet.certify({ peerId: c, notAfter: T0 + 60 * DAY_S });
    assert.throws(() => members.hear(third.bytes), refused('full'));
    now = T0 + 40 * DAY_S;
    members.hear(third.bytes);
    assert.deepEqual(members.members, [third]);
  });

  test('nodes that have heard the same, in whatever order, have the same members', () => {
    const keys = [newWireguardKey(), newWireguardKey()];
    const certificate = fc.record({
      peer: fc.nat(3),
      key: fc.nat(1),
      site: fc.constantFrom('hq', 'edge'),
      since: fc.nat(3),
      from: fc.nat(3),
    });
    const revocation = fc.record({ peer: fc.nat(3), by: fc.constantFrom('owner', 'edge') });
    const signed = fc.oneof(
      {
        weight: 4,
        arbitrary: certificate.map(({ peer, key, site, since, from }) => {
          const [peerId = '', wireguardKey = ''] = [ids[peer], keys[key]];
          const facts = factsOf({ peerId, wireguardKey, site, since: T0 - since, notBefore: T0 + from });
          return issueCertificate(facts, fleet.key('owner'), fleet.trust).bytes;
        }),
      },
      { weight: 1, arbitrary: revocation.map(({ peer, by }) => fleet.revoke(ids[peer] ?? '', { by }).bytes) },
    );
    const statements = fc.array(signed, { maxLength: 12 });
    const orders = statements.chain((all) =>
      fc.tuple(fc.constant(all), fc.shuffledSubarray(all, { minLength: all.length })),
    );
    fc.assert(
      fc.property(orders, ([one, other]) => {
        const told = (all: readonly Uint8Array[]) => hearing(...all.map((bytes) => ({ bytes })));
        const names = (members: Members) => members.members.map(({ peerId, bytes }) => [peerId, ...bytes]).sort();
        assert.deepEqual(names(told(one)), names(told(other)));
        assert.deepEqual(
          ids.map((id) => told(one).fault(id)),
          ids.map((id) => told(other).fault(id)),
        );
      }),
    );
  });
});
