import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { MemberStore } from '../../src/fleet/member-store.ts';
import { MemberSync } from '../../src/fleet/member-sync.ts';
import { type MemberChange, Members } from '../../src/fleet/members.ts';
import { silentLog } from '../../src/observe/log.ts';
import { DAY_S, IssuingFleet, peerIds, T0 } from '../fakes/issuing-fleet.ts';
import { FakeNetwork } from '../fakes/metadata-network.ts';

const fleet = new IssuingFleet();
const ids = await peerIds(60);
const certificates = ids.map((peerId) => fleet.certify({ peerId }));

async function world(t: TestContext) {
  const network = new FakeNetwork();
  const folder = await mkdtemp(join(tmpdir(), 'bm-sync-'));
  const open: AsyncDisposable[] = [];
  t.after(async () => {
    for (const each of open) await each[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });
  const node = (id: string, { trust = fleet.trust, known = [] as Uint8Array[] } = {}) => {
    const members = new Members({ trust, now: () => T0 + DAY_S });
    for (const bytes of known) members.hear(bytes);
    const store = new MemberStore(join(folder, id), { log: silentLog }, { settleMs: 1 });
    const changes: MemberChange[] = [];
    const blamed: string[] = [];
    const deps = { network: network.node(id), members, store, log: silentLog };
    const hooks = {
      onChange: (change: MemberChange) => changes.push(change),
      blame: (peer: string) => blamed.push(peer),
    };
    const sync = new MemberSync({ ...deps, ...hooks });
    open.push(sync, store);
    return { members, store, changes, blamed, sync, network: deps.network };
  };
  return { network, node };
}

async function until(met: () => boolean): Promise<void> {
  const signal = AbortSignal.timeout(10_000);
  while (!met()) {
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

suite('member sync', () => {
  test('what one says all connected hear, and it is on disk before it is said', async (t) => {
    const { network, node } = await world(t);
    const [a, b] = [node('a'), node('b')];
    network.link('a', 'b');
    const [first] = certificates;
    assert.ok(first);
    await a.sync.say(first.bytes);
    assert.equal((await a.store.read()).length, 1);
    assert.deepEqual(b.members.members, [first]);
    assert.deepEqual(
      b.changes.flatMap(({ joined }) => joined),
      [first],
    );
    await b.sync.say(first.bytes);
    assert.equal(b.network.announced.length, 0, 'known already');
  });

  test('who meets after a partition has all that the other has, asks for what differs alone, and passes it on', async (t) => {
    const { network, node } = await world(t);
    const all = certificates.map(({ bytes }) => bytes);
    const [a, b, c] = [node('a', { known: all.slice(0, 40) }), node('b', { known: all.slice(30) }), node('c')];
    await b.sync.say(fleet.revoke(ids[0] ?? '').bytes);
    network.link('b', 'c');
    await until(() => c.members.members.length === 30);
    network.link('a', 'b');
    await until(() => [a, b, c].every(({ members }) => members.members.length === 59));
    for (const { members } of [a, b, c]) assert.equal(members.fault(ids[0] ?? ''), 'revoked');
    const asked = a.network.asked.length;
    network.link('a', 'b');
    await until(() => a.network.asked.length > asked);
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.deepEqual(a.network.asked.slice(asked), ['members/digests'], 'nothing differs');
  });

  test('a revocation that was heard of by asking goes on at once', async (t) => {
    const { network, node } = await world(t);
    const [a, b, c] = [node('a'), node('b'), node('c')];
    const [first] = certificates;
    assert.ok(first);
    network.link('b', 'c');
    await b.sync.say(first.bytes);
    assert.ok(c.members.member(first.peerId));
    await a.sync.say(first.bytes);
    await a.sync.say(fleet.revoke(first.peerId).bytes);
    network.link('a', 'b');
    await until(() => c.members.fault(first.peerId) === 'revoked');
    assert.equal(c.changes.flatMap(({ left }) => left).length, 1);
  });

  test('who sends what nobody signed is blamed; who believes another list is not', async (t) => {
    const { network, node } = await world(t);
    const honest = node('honest');
    const [first, second] = certificates;
    assert.ok(first && second);
    const forged = Buffer.from(first.bytes);
    forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
    const long = Buffer.concat([first.bytes, Buffer.alloc(1024)]);
    assert.deepEqual(
      [forged, forged, long].map((bytes) => honest.network.gossip(bytes, 'liar')),
      [['reject'], ['reject'], ['reject']],
    );
    assert.deepEqual(honest.blamed, ['liar', 'liar', 'liar']);
    const unsettled = node('unsettled', { trust: { ...fleet.trust, issuers: [] } });
    assert.deepEqual(unsettled.network.gossip(first.bytes, 'liar'), ['ignore'], 'another list may know better');
    unsettled.sync.judge(fleet.trust);
    const worth = [first.bytes, first.bytes].map((bytes) => unsettled.network.gossip(bytes, 'anybody'));
    assert.deepEqual([worth, unsettled.blamed], [[['accept'], ['ignore']], []], 'news goes on, and once');
    const behind = node('behind', { trust: { ...fleet.trust, issuers: [] } });
    network.link('honest', 'behind');
    await honest.sync.say(second.bytes);
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.deepEqual([behind.blamed, behind.members.members], [[], []]);
    behind.sync.judge(fleet.trust);
    await until(() => behind.members.members.length === 1);
  });

  test('of many that keep a revocation back, or do not answer, one who tells it is enough', async (t) => {
    const { network, node } = await world(t);
    const [first] = certificates;
    assert.ok(first);
    const known = [first.bytes];
    // What all would say who have not heard of it.
    const innocent = node('innocent', { known });
    const asking = network.node('asking');
    asking.links.add('innocent');
    for (let n = 0; n < 24; n += 1)
      network.liar(`liar${n}`, async (name, options) => await asking.ask('innocent', name, options));
    for (let n = 0; n < 8; n += 1) {
      network.liar(`mute${n}`, (_, { signal }) => {
        return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      });
    }
    const [victim, honest] = [node('victim', { known }), node('honest', { known })];
    await honest.sync.say(fleet.revoke(first.peerId).bytes);
    for (const id of network.nodes.keys()) if (/^(liar|mute)/.test(id)) network.link('victim', id);
    network.link('victim', 'honest');
    await until(() => victim.members.fault(first.peerId) === 'revoked');
    assert.equal(innocent.members.fault(first.peerId), undefined);
  });

  test('a peer that answers with anything costs its own answer alone', async (t) => {
    const { network, node } = await world(t);
    const honest = node('honest');
    network.liar('short', async () => Buffer.alloc(3));
    network.liar('noise', async (_, { maxBytes }) => Buffer.alloc(Math.min(maxBytes, 512), 7));
    network.liar('mute', async () => undefined);
    const other = node('other');
    await other.sync.say(certificates[1]?.bytes ?? Buffer.alloc(0));
    network.link('honest', 'short', 'noise', 'mute');
    network.link('honest', 'other');
    await until(() => honest.members.members.length === 1);
  });
});
