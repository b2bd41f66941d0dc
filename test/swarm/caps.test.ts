import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { CID } from 'multiformats/cid';
import { MemoryStore } from '../fakes/memory-store.ts';
import { type Content, content, Fleet, fill, holdsAll, soon } from './fleet.ts';

/** Bytes per second; a second holds about 30 chunks. */
const CAP = 2_000_000;
const CHUNK = 64 * 1024;

/** Remembers when chunks came and went, by `performance.now()`. */
class WatchedStore extends MemoryStore {
  readonly came: { at: number; bytes: number }[] = [];
  readonly went: { at: number; bytes: number }[] = [];

  override async put(cid: CID, bytes: Uint8Array): Promise<void> {
    this.came.push({ at: performance.now(), bytes: bytes.length });
    await super.put(cid, bytes);
  }

  override async get(...given: Parameters<MemoryStore['get']>): Promise<Uint8Array | undefined> {
    const bytes = await super.get(...given);
    if (bytes !== undefined) this.went.push({ at: performance.now(), bytes: bytes.length });
    return bytes;
  }
}

/** The most bytes in any second that begins with a tenth of a second. */
function busiestSecond(moves: readonly { at: number; bytes: number }[]): number {
  const bins = new Map<number, number>();
  for (const { at, bytes } of moves) bins.set(Math.floor(at / 100), (bins.get(Math.floor(at / 100)) ?? 0) + bytes);
  const seconds = [...bins.keys()].map((first) =>
    Array.from({ length: 10 }, (_, n) => bins.get(first + n) ?? 0).reduce((sum, bytes) => sum + bytes, 0),
  );
  return Math.max(0, ...seconds);
}

async function given(store: MemoryStore, count: number): Promise<Content> {
  const made = content(count, CHUNK);
  await fill(store, made.chunks);
  return made;
}

suite('rate caps', { concurrency: true, timeout: 60_000 }, () => {
  test('a node gets no more than its cap in any second, and all it wants when the cap is lifted', async () => {
    await using fleet = new Fleet();
    const givers = [await fleet.node(), await fleet.node()];
    const store = new WatchedStore();
    const taker = await fleet.node({ store, options: { exchange: { caps: { down: CAP } } } });
    const { set, chunks } = await given(givers[0]?.store as MemoryStore, 160);
    for (const giver of givers) {
      await fill(giver.store, chunks);
      await giver.swarm.share(set);
    }
    const done = taker.swarm.download(set, soon());
    await delay(2_500);
    // Put right after it was counted, so that only the last one may fall into another tenth.
    const most = busiestSecond(store.came);
    assert.ok(most <= CAP + CHUNK, `${most} bytes came in a second under a cap of ${CAP}`);
    const before = store.came.length;
    assert.ok(before < 100, 'most is yet to come');
    taker.swarm.setCaps({});
    await done;
    assert.ok(await holdsAll(store, chunks));
  });

  test('a node gives no more than its cap in any second, to all together', async () => {
    await using fleet = new Fleet();
    const giver = await fleet.node({ options: { exchange: { caps: { up: CAP } } } });
    const stores = [new WatchedStore(), new WatchedStore()];
    const done = stores.map(async (store) => {
      const taker = await fleet.node({ store });
      // Not the same for both, since they would give it to each other.
      const { set, chunks } = await given(giver.store as MemoryStore, 40);
      await giver.swarm.share(set);
      await taker.swarm.download(set, soon());
      assert.ok(await holdsAll(store, chunks));
    });
    await Promise.all(done);
    const most = busiestSecond(stores.flatMap(({ came }) => came));
    // What has left may arrive together when this process pauses: a tenth of a second's worth may be under way.
    assert.ok(most <= 1.25 * CAP, `${most} bytes came in a second under a cap of ${CAP}`);
  });

  test('the nodes of a site take no more than its cap across the uplink together, whenever they begin', async () => {
    await using fleet = new Fleet();
    const store = new WatchedStore();
    const origin = await fleet.node({ site: 'origin', store });
    const { set, chunks } = await given(store, 80);
    await origin.swarm.share(set);
    const edge = await fleet.together(3, { options: { exchange: { caps: { uplink: { down: CAP } } } } });
    const [first, ...others] = edge;
    assert.ok(first);
    const downloads = [first.swarm.download(set, soon())];
    await delay(2_000);
    downloads.push(...others.map(({ swarm }) => swarm.download(set, soon())));
    await Promise.all(downloads);
    for (const node of edge) assert.ok(await holdsAll(node.store, chunks));
    const most = busiestSecond(store.went);
    assert.ok(most <= 1.1 * CAP + CHUNK, `${most} bytes crossed the uplink in a second under a cap of ${CAP}`);
  });

  test('outside their hours background downloads ask for nothing, and those that somebody waits for go on', async () => {
    let open = false;
    await using fleet = new Fleet();
    const giver = await fleet.node();
    const store = new WatchedStore();
    const taker = await fleet.node({ store, options: { backgroundOpen: () => open } });
    const { set, chunks } = await given(giver.store as MemoryStore, 50);
    await giver.swarm.share(set);
    const { signal } = soon();
    const background = taker.swarm.download(set, { signal, priority: 'background' });
    await delay(1_000);
    assert.equal(store.came.length, 0);
    // A machine reads one chunk of it; the rest stays where it is.
    const [chunk] = chunks;
    assert.ok(chunk);
    // Until they are linked, nobody has it.
    let bytes: Uint8Array | undefined;
    while (bytes === undefined) bytes = await taker.swarm.source(set).get(chunk.cid, { signal });
    assert.equal(Buffer.compare(bytes, chunk.bytes), 0);
    await delay(300);
    assert.equal(store.came.length, 1);
    // Somebody wants another set as a whole.
    const other = await given(giver.store as MemoryStore, 5);
    await giver.swarm.share(other.set);
    await taker.swarm.download(other.set, soon());
    assert.equal(store.came.length, 6);
    open = true;
    await background;
    assert.ok(await holdsAll(store, chunks));
  });
});
