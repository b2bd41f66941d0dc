import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { createKeyFile } from '../../src/disk/key-file.ts';
import type { IssuerReachOptions } from '../../src/enrolment/issuer-reach.ts';
import { fleetFiles, Membership } from '../../src/enrolment/membership.ts';
import { Presence } from '../../src/enrolment/presence.ts';
import { type CertificateFacts, renewAt } from '../../src/fleet/certificate.ts';
import type { Identity } from '../../src/fleet/identity.ts';
import { MemberStore } from '../../src/fleet/member-store.ts';
import { Roster } from '../../src/fleet/roster.ts';
import { openStatement, sealStatement } from '../../src/fleet/statement.ts';
import { loadWireguardKey } from '../../src/fleet/wireguard-key.ts';
import { silentLog } from '../../src/observe/log.ts';
import type { KnownMember } from '../../src/swarm/membership.ts';
import { DAY_S, factsOf, IssuingFleet, identities } from '../fakes/issuing-fleet.ts';
import { FakeNetwork } from '../fakes/metadata-network.ts';
import { RecordedLog } from '../fakes/recorded-log.ts';

const fleet = new IssuingFleet();
const TRUST = { format: 1, ...fleet.trust };
const [issuerId, memberId, otherId] = (await identities(3)) as [Identity, Identity, Identity];
const nowSeconds = () => Math.floor(Date.now() / 1000);

async function scene(t: TestContext) {
  const network = new FakeNetwork();
  const folder = await mkdtemp(join(tmpdir(), 'bm-presence-'));
  const open = new AsyncDisposableStack();
  t.after(async () => {
    await open.disposeAsync();
    await rm(folder, { recursive: true, force: true });
  });
  const dataOf = (identity: Identity) => join(folder, identity.peerId);

  /** What `join` leaves behind. */
  const enrol = async (identity: Identity, facts: Partial<CertificateFacts> = {}, by = 'edge') => {
    const data = dataOf(identity);
    const { publicKey: wireguardKey } = await loadWireguardKey(data);
    const from = nowSeconds();
    const times = { since: from, notBefore: from, notAfter: from + 30 * DAY_S };
    const certificate = fleet.certify(factsOf({ peerId: identity.peerId, wireguardKey, ...times, ...facts }), by);
    await mkdir(dirname(fleetFiles(data).members), { recursive: true });
    const store = new MemberStore(fleetFiles(data).members, { log: silentLog });
    const before = await store.read();
    store.keep(() => [...before, certificate.bytes]);
    await store.flush();
    return certificate;
  };
  const enable = async (identity: Identity, issuer: string) => {
    const file = fleetFiles(dataOf(identity)).issuer;
    await mkdir(dirname(file), { recursive: true });
    await createKeyFile(file, fleet.key(issuer));
  };
  const membershipOf = async (identity: Identity, trust: unknown = TRUST) => {
    const data = dataOf(identity);
    const clock = { now: Date.now, signed: () => undefined };
    const facts = { data, identity, roster: new Roster({ nodes: {} }), keys: undefined, trust };
    return await Membership.open({ ...facts, clock, log: silentLog });
  };
  const start = async (identity: Identity, reach: Partial<IssuerReachOptions> = {}) => {
    const addresses = ['/ip4/127.0.0.1/tcp/4001', '/ip4/192.0.2.1/tcp/4001'];
    const membership = await membershipOf(identity);
    const documents = network.node(identity.peerId);
    const met: KnownMember[] = [];
    const parted: string[] = [];
    const forgone: string[] = [];
    const log = new RecordedLog();
    const swarm = {
      documents,
      addresses: () => addresses.map((address) => `${address}/p2p/${identity.peerId}`),
      connected: () => documents.peers(),
      meet: (member: KnownMember) => met.push(member),
      forgo: (peer: string) => forgone.push(peer),
      part: (peer: string, why: string) => parted.push(`${peer} ${why}`),
      offend: () => assert.fail('nobody lies here'),
    };
    const { certified } = membership;
    assert.ok(certified);
    const presence = open.use(new Presence({ membership, certified, identity, swarm, log }, { lookMs: 10, reach }));
    return { membership, members: certified.members, presence, met, parted, forgone, log, documents, addresses };
  };
  return { network, enrol, enable, start, membershipOf };
}

async function until(met: () => boolean): Promise<void> {
  const signal = AbortSignal.timeout(10_000);
  while (!met()) {
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

suite('presence', () => {
  test('who may admit is its own first member, by the certificate of its first start', async (t) => {
    const { enable, start, membershipOf } = await scene(t);
    await enable(issuerId, 'edge');
    const first = await start(issuerId);
    assert.equal(first.membership.own?.site, 'edge');
    await first.presence[Symbol.asyncDispose]();
    const again = await membershipOf(issuerId);
    assert.deepEqual(again.own?.bytes, first.membership.own?.bytes);
    assert.equal((await membershipOf(otherId)).own, undefined, 'nobody else is');
    const later = await membershipOf(otherId, { ...TRUST, format: 2 });
    assert.equal(later.certified, undefined, 'a list that is not understood keeps no agent from starting');
  });

  test('tells where it is, and where it went; the others meet it there', async (t) => {
    const { network, enrol, start } = await scene(t);
    await enrol(memberId);
    await enrol(otherId);
    const [one, other] = [await start(memberId), await start(otherId)];
    network.link(memberId.peerId, otherId.peerId);
    await until(() => other.met.length > 0);
    assert.partialDeepStrictEqual(other.met[0], { peerId: memberId.peerId, addresses: ['/ip4/192.0.2.1/tcp/4001'] });
    one.addresses.splice(0, 2, '/ip4/192.0.2.9/tcp/4001');
    await until(() => other.met.at(-1)?.addresses[0] === '/ip4/192.0.2.9/tcp/4001');
    assert.deepEqual(one.parted, []);
  });

  test('has its certificate renewed by a peer that may, as it was, before it is over', async (t) => {
    const { network, enrol, enable, start } = await scene(t);
    const since = nowSeconds() - 25 * DAY_S;
    const facts = { since, notBefore: since, notAfter: since + 30 * DAY_S, roles: ['seed'], name: 'old' } as const;
    const old = await enrol(memberId, facts);
    assert.ok(renewAt(old) < nowSeconds());
    await enrol(otherId);
    await enable(issuerId, 'edge');
    const [member, bystander] = [await start(memberId), await start(otherId), await start(issuerId)];
    network.link(memberId.peerId, otherId.peerId);
    await until(() => bystander.documents.asked.includes('certificate/renew'));
    assert.equal(member.membership.own?.notAfter, old.notAfter, 'nobody there may renew');
    network.link(memberId.peerId, otherId.peerId, issuerId.peerId);
    await until(() => (member.membership.own?.notAfter ?? 0) > old.notAfter);
    const { notAfter, ...kept } = member.membership.own ?? old;
    assert.partialDeepStrictEqual(kept, {
      since,
      name: 'old',
      roles: ['seed'],
      site: 'edge',
      wireguardKey: old.wireguardKey,
    });
    assert.ok(notAfter <= nowSeconds() + 30 * DAY_S, 'no longer than the issuer may give');
    await until(() => bystander.members.member(memberId.peerId)?.notAfter === notAfter);
    const ask = network.node('nobody').ask.bind(network.nodes.get('nobody'));
    network.linkQuietly('nobody', issuerId.peerId);
    const options = { signal: AbortSignal.timeout(1000), maxBytes: 1024 };
    assert.equal(await ask(issuerId.peerId, 'certificate/renew', options), undefined, 'of no member');
  });

  test('who may admit and is revoked makes itself no new certificates', async (t) => {
    const { enable, start } = await scene(t);
    await enable(issuerId, 'edge');
    const one = await start(issuerId);
    await until(() => one.members.binding(issuerId.peerId) !== undefined);
    await one.presence.sync.say(fleet.revoke(issuerId.peerId).bytes);
    const known = [...one.members.statements()];
    // A certificate of the same second would be the same one.
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    assert.deepEqual([...one.members.statements()], known);
    assert.equal(one.membership.own, undefined);
  });

  test('whose issuer was off for too long goes on at its site, and is renewed when it is back', async (t) => {
    const { network, enrol, enable, start } = await scene(t);
    const since = nowSeconds() - 31 * DAY_S;
    const old = await enrol(memberId, { since, notBefore: since, notAfter: since + 30 * DAY_S });
    await enrol(otherId);
    const [member, other] = [await start(memberId), await start(otherId)];
    network.link(memberId.peerId, otherId.peerId);
    await until(() => other.met.length > 0);
    assert.equal(member.membership.own?.notAfter, old.notAfter);
    assert.equal(other.membership.member(memberId.peerId)?.site, 'edge');
    await enable(issuerId, 'edge');
    await start(issuerId);
    network.link(memberId.peerId, otherId.peerId, issuerId.peerId);
    await until(() => (member.membership.own?.notAfter ?? 0) > nowSeconds());
    await until(() => (other.members.member(memberId.peerId)?.notAfter ?? 0) > nowSeconds());
    assert.deepEqual([...member.parted, ...other.parted], []);
  });

  test('who was not renewed although an issuer is there is parted from', async (t) => {
    const { network, enrol, enable, start } = await scene(t);
    const since = nowSeconds() - 31 * DAY_S;
    await enrol(memberId, { since, notBefore: since, notAfter: since + 30 * DAY_S });
    await enrol(otherId);
    await enable(issuerId, 'edge');
    const [other] = [
      await start(otherId, { settleMs: 200, againMs: 20 }),
      await start(memberId),
      await start(issuerId),
    ];
    network.link(memberId.peerId, otherId.peerId);
    await until(() => other.met.length > 0);
    assert.deepEqual(other.parted, [], 'nobody could renew it');
    network.link(otherId.peerId, issuerId.peerId);
    await until(() => other.parted.some((line) => line === `${memberId.peerId} its certificate is over`));
    assert.equal(other.members.fault(memberId.peerId), 'expired');
  });

  test('who is revoked is told by whom it dials, believes the issuer alone, says so, and dials nobody more', async (t) => {
    const { network, enrol, start, membershipOf } = await scene(t);
    await enrol(memberId);
    await enrol(otherId);
    const [one, other] = [await start(memberId), await start(otherId)];
    network.link(memberId.peerId, otherId.peerId);
    await until(() => one.met.length > 0);
    const revocation = fleet.revoke(memberId.peerId);
    assert.deepEqual(other.membership.vouching?.farewell?.(memberId.peerId), new Uint8Array());
    other.members.hear(revocation.bytes);
    const farewell = other.membership.vouching?.farewell?.(memberId.peerId) ?? new Uint8Array();
    assert.deepEqual(farewell, revocation.bytes);

    const said = () => one.log.lines.filter(({ sentence }) => /was revoked/.test(sentence));
    const stranger = new IssuingFleet();
    const forged = sealStatement('revocation', openStatement(farewell).body, stranger.key('owner'));
    const ofOther = fleet.revoke(issuerId.peerId);
    for (const bytes of [forged, ofOther.bytes]) one.membership.vouching?.shown(otherId.peerId, bytes);
    assert.ok(one.membership.own);
    assert.equal(one.members.revocation(issuerId.peerId), undefined, 'what is not of this node comes by other ways');
    assert.deepEqual([said(), one.forgone], [[], []]);

    one.membership.vouching?.shown(otherId.peerId, farewell);
    assert.equal(one.membership.own, undefined);
    assert.partialDeepStrictEqual(one.membership.revoked, { issuer: 'owner', why: 'lost' });
    const [line] = said();
    assert.partialDeepStrictEqual(line, { level: 'error', by: 'owner', why: 'lost' });
    assert.match(`${line?.['advice']}`, /move identity\.key away, and join with a new token/);
    assert.ok(one.forgone.includes(otherId.peerId));
    one.membership.vouching?.shown(otherId.peerId, farewell);
    await one.presence[Symbol.asyncDispose]();
    assert.equal(said().length, 1);
    assert.ok((await membershipOf(memberId)).revoked, 'also when it starts again');
  });

  test('parts from whose time is over, who is revoked, and whose issuer is one no more', async (t) => {
    const { network, enrol, start } = await scene(t);
    const from = nowSeconds() - 10;
    await enrol(memberId, { since: from, notBefore: from, notAfter: nowSeconds() + 2, roles: ['seed'] });
    await enrol(otherId, {}, 'owner');
    await enrol(issuerId, {}, 'owner');
    const [one, other, third] = [await start(memberId), await start(otherId), await start(issuerId)];
    network.link(memberId.peerId, otherId.peerId, issuerId.peerId);
    await until(() => other.members.member(memberId.peerId) !== undefined);
    await until(() => other.parted.length > 0);
    assert.match(other.parted[0] ?? '', new RegExp(`^${memberId.peerId} its certificate is over`));
    assert.equal(one.membership.own, undefined);
    await third.presence.sync.say(fleet.revoke(otherId.peerId).bytes);
    await until(() => third.parted.some((line) => line.startsWith(`${otherId.peerId} no member any more: revoked`)));
    third.presence.judge({ ...TRUST, epoch: TRUST.epoch + 1 });
    assert.deepEqual(third.members.members, []);
    third.presence.judge({ ...TRUST, fleetId: 'ff'.repeat(16) });
    third.presence.judge({ nonsense: true });
    assert.equal(third.members.trust.epoch, TRUST.epoch + 1, 'a list that is not the fleet’s changes nothing');
  });
});
