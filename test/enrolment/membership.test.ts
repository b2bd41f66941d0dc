import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { FleetClock } from '../../src/enrolment/fleet-clock.ts';
import { fleetFiles, Membership } from '../../src/enrolment/membership.ts';
import type { CertificateFacts } from '../../src/fleet/certificate.ts';
import type { Identity } from '../../src/fleet/identity.ts';
import { MemberStore } from '../../src/fleet/member-store.ts';
import { Roster } from '../../src/fleet/roster.ts';
import { silentLog } from '../../src/observe/log.ts';
import { DAY_S, IssuingFleet, identities } from '../fakes/issuing-fleet.ts';

const fleet = new IssuingFleet();
const TRUST = { format: 1, ...fleet.trust };
const [own, peer, third] = (await identities(3)) as [Identity, Identity, Identity];
/** 2027-01-01. */
const NOW = 1_798_761_600;

/** A node's data directory, and what is found in it by a start at which the machine's clock shows `shows`. */
async function node(t: TestContext) {
  const data = await mkdtemp(join(tmpdir(), 'bm-membership-'));
  t.after(() => rm(data, { recursive: true, force: true }));
  const files = fleetFiles(data);
  await mkdir(dirname(files.members), { recursive: true });
  const keep = async (...statements: readonly { readonly bytes: Uint8Array }[]) => {
    const store = new MemberStore(files.members, { log: silentLog });
    store.keep(() => statements.map(({ bytes }) => bytes));
    await store.flush();
  };
  const start = async (shows: number) => {
    const clock = await FleetClock.open(files.clock, { log: silentLog, system: () => shows * 1000, elapsed: () => 0 });
    const facts = { data, identity: own, roster: new Roster({ nodes: {} }), keys: undefined, trust: TRUST };
    const membership = await Membership.open({ ...facts, clock, log: silentLog });
    const { members } = membership.certified ?? assert.fail('the fleet has certificates');
    return { membership, members, clock };
  };
  return { keep, start };
}

/** Of thirty days, that begins so many days from `NOW`. */
function certificate({ peerId }: Identity, days: number, facts: Partial<CertificateFacts> = {}) {
  const notBefore = NOW + days * DAY_S;
  const times = { since: notBefore, notBefore, notAfter: notBefore + 30 * DAY_S };
  return fleet.certify({ peerId, ...times, ...facts });
}

suite('membership', () => {
  test('a clock that was set back does not bring a certificate back to life', async (t) => {
    const { keep, start } = await node(t);
    // A seed has no grace.
    const expired = certificate(peer, -32, { roles: ['seed'] });
    await keep(certificate(own, -20), expired);
    const first = await start(NOW);
    // Steps of less than a month, as issuers make them.
    for (const days of [-40, -12, -1]) first.members.hear(certificate(third, days).bytes);
    assert.equal(first.membership.member(peer.peerId), undefined);
    await first.clock[Symbol.asyncDispose]();

    const back = await start(NOW - 10 * DAY_S);
    assert.equal(back.clock.fault?.kind, 'behind');
    assert.equal(back.members.fault(peer.peerId), 'expired');
    assert.equal(back.membership.member(peer.peerId), undefined);
    assert.ok(back.membership.own, 'what counted still does');
    const shown = back.membership.vouching?.shown(peer.peerId, expired.bytes);
    assert.equal(shown, false, 'nor when it is shown');
  });

  test('an issuer whose clock is years ahead shuts nobody out, neither then nor when it is set', async (t) => {
    const { keep, start } = await node(t);
    const ahead = 3650;
    await keep(certificate(own, -20), certificate(peer, -20), certificate(peer, ahead), certificate(third, ahead));
    const { membership, members, clock } = await start(NOW);
    assert.equal(clock.now(), NOW * 1000);
    assert.ok(membership.own);
    assert.ok(membership.member(peer.peerId), 'the certificate before counts on');
    assert.throws(() => members.hear(certificate(peer, ahead).bytes), { reason: 'early' });
    const next = certificate(peer, -1);
    assert.ok(members.hear(next.bytes), 'and the next one replaces it');
    assert.deepEqual(membership.member(peer.peerId), members.certificate(peer.peerId));
    assert.equal(members.certificate(third.peerId), undefined);
  });
});
