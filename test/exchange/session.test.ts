import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { CID } from 'multiformats/cid';
import type { ChunkSet } from '../../src/content/chunk-set.ts';
import type { Link } from '../../src/exchange/link.ts';
import { LocalSet } from '../../src/exchange/local-set.ts';
import { RemoteSets } from '../../src/exchange/remote-sets.ts';
import { Session, type SessionDeps } from '../../src/exchange/session.ts';
import { Window } from '../../src/schedule/window.ts';
import { MemoryStore } from '../fakes/memory-store.ts';
import { content, Fleet, fill, holdsAll, soon } from '../swarm/fleet.ts';

const IN_FLIGHT = 1024 * 1024;

/** Takes its time to keep a chunk, and remembers how many bytes it had in hand at most. */
class SlowDisk extends MemoryStore {
  most = 0;
  #inHand = 0;

  override async put(cid: CID, bytes: Uint8Array): Promise<void> {
    this.#inHand += bytes.length;
    this.most = Math.max(this.most, this.#inHand);
    await delay(30);
    await super.put(cid, bytes);
    this.#inHand -= bytes.length;
  }
}

suite('session', { timeout: 60_000 }, () => {
  test('a slow disk is not given more than may be in flight, and the download goes on at its pace', async () => {
    await using fleet = new Fleet();
    const uploaders = [await fleet.node(), await fleet.node()];
    const disk = new SlowDisk();
    const slow = await fleet.node({ store: disk, options: { exchange: { maxBytesInFlight: IN_FLIGHT } } });
    const { set, chunks } = content(120);
    for (const { swarm, store } of uploaders) {
      await fill(store, chunks);
      await swarm.share(set);
    }
    const report = await slow.swarm.download(set, soon());
    assert.ok(await holdsAll(disk, chunks));
    assert.equal(report.duplicateBytes, 0);
    // The last chunk that is asked for may be larger than what is left.
    assert.ok(disk.most <= IN_FLIGHT + 64 * 1024 + 8, `${disk.most} bytes on their way to the disk`);
    assert.ok(disk.most >= IN_FLIGHT / 4, 'several at a time');
  });

  test('a chunk that came is announced: who wants the set hears of it while the download goes on', async () => {
    await using fleet = new Fleet();
    const origin = await fleet.node({ site: 'origin' });
    const { set, chunks } = content(60);
    await fill(origin.store, chunks);
    await origin.swarm.share(set);
    const [first, second] = await fleet.together(2);
    assert.ok(first && second);
    const reports = await Promise.all([first, second].map(({ swarm }) => swarm.download(set, soon())));
    const [one, other] = reports.map(({ bytesByPeer }) => bytesByPeer.get(origin.swarm.peerId) ?? 0);
    assert.ok((one ?? 0) + (other ?? 0) <= 1.1 * set.bytes, 'each got from the other what it did not fetch itself');
    const between =
      (reports[0]?.bytesByPeer.get(second.swarm.peerId) ?? 0) + (reports[1]?.bytesByPeer.get(first.swarm.peerId) ?? 0);
    assert.ok(between >= 0.9 * set.bytes, 'in which direction is left to who was first');
  });

  test('what a peer whose window is full has got is no reason to plan, unless a reader waits', async () => {
    const { set } = content(3);
    const link = { peerId: 'one', near: true, ready: true, sets: new RemoteSets(), window: new Window() };
    const session = await lonely([{ ...link, send: () => undefined, prepare: () => undefined }], set);
    const about = { handle: 1, wants: true, outside: false, claimed: [] };
    link.sets.subscribe({ kind: 'subscribe', set: set.id, chunks: 3, have: new Uint8Array(), ...about }, true);
    session.open();
    const got = (index: number) => {
      const update = link.sets.update({ kind: 'have', added: [index], unclaimed: [], lost: [], ...about });
      return session.heard(link as unknown as Link, update?.news ?? {});
    };
    assert.equal(got(0), true);
    link.window.asked(link.window.target - 1, 0);
    assert.equal(got(1), false);
    const reader = session.get(2, AbortSignal.timeout(1_000));
    assert.equal(got(2), true);
    session.close();
    assert.equal(await reader, false);
  });

  test('in a fleet of many sites its origins are asked first; when nobody asked holds what is wanted, all others are', async () => {
    const asked: string[] = [];
    const links = Array.from({ length: 60 }, (_, n) => {
      const peerId = n === 59 ? 'origin' : `far ${n}`;
      const link = { peerId, near: false, ready: true, sets: new RemoteSets(), window: new Window() };
      return { ...link, send: () => asked.push(peerId), prepare: () => undefined };
    });
    const { set } = content(3);
    const session = await lonely(links, set);
    session.join('foreground', () => undefined);
    session.open();
    assert.equal(asked[0], 'origin');
    assert.equal(asked.length, 10);
    session.plan(1, true);
    const ticks = (count: number) => {
      for (let n = 0; n < count; n += 1) session.tick(performance.now() + 2_000);
    };
    const about = { set: set.id, chunks: 3, wants: true, outside: false, claimed: [] };
    const origin = links.at(-1) as unknown as Link;
    origin.sets.subscribe({ kind: 'subscribe', handle: 1, have: Uint8Array.of(1), ...about }, true);
    session.met(origin);
    ticks(8);
    assert.equal(asked.length, 10, 'there is something to get');
    // It has no more than that, and nobody else has said that he has.
    session.stored(0);
    ticks(8);
    assert.deepEqual(asked.toSorted(), links.map(({ peerId }) => peerId).toSorted());
    session.close();
  });
});

/** A session that plans, with links that say nothing by themselves; nothing is asked of anybody. */
async function lonely(links: readonly object[], set: ChunkSet): Promise<Session> {
  const store = new MemoryStore();
  const deps = {
    ...{ self: 'us', store, settleMs: -1, random: Math.random, budget: () => 1e6, soon: () => 1, lateMs: () => 0 },
    ...{ link: () => undefined, links: () => links, expected: () => [], admit: () => true },
    ...{ changed: () => undefined, seek: () => undefined, likely: (peer: string) => peer === 'origin' },
  };
  const session = new Session(deps as unknown as SessionDeps, await LocalSet.open(set, 1, store, {}), {});
  session.done.promise.catch(() => undefined);
  return session;
}
