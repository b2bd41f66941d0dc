import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Download } from '../../src/schedule/download.ts';
import { HaveMap } from '../../src/schedule/have-map.ts';
import type { RemotePeer } from '../../src/schedule/holder.ts';
import { FAR_PATIENCE } from '../../src/schedule/patience.ts';
import { Window } from '../../src/schedule/window.ts';
import { CHUNK, Model, type NodePlan } from './model.ts';

/** Bytes per millisecond. */
const MBIT = 125;

function site(count: number, rate: number): NodePlan[] {
  return Array.from({ length: count }, (_, n) => ({ id: `n${n}`, site: 'edge', rate }));
}

const origin: NodePlan = { id: 'origin', site: 'far', rate: 100 * MBIT, seed: true };

suite('download', () => {
  test('eight nodes get everything nearly as fast as the origin can send it once, and it sends it once', () => {
    const chunks = 768;
    for (const rate of [100 * MBIT, 1000 * MBIT]) {
      const model = new Model([origin, ...site(8, rate)], chunks);
      const bound = (chunks * CHUNK) / origin.rate;
      const time = model.run();
      assert.ok([...model.nodes.values()].every(({ have }) => have.complete));
      assert.ok(time / bound <= (rate > origin.rate ? 1.05 : 1.12), `${time / bound} of the bound`);
      assert.ok(model.copies('origin') <= 1.01, `${model.copies('origin')} copies left the origin`);
      for (const { received } of model.nodes.values()) assert.ok(received <= 1.02 * chunks);
    }
  });

  test('a seed on the segment sends each chunk once as well', () => {
    const seed = { ...origin, site: 'edge' };
    const model = new Model([seed, ...site(6, 100 * MBIT)], 400);
    const time = model.run();
    assert.ok(model.copies('origin') <= 1.02, `${model.copies('origin')} copies left the seed`);
    assert.ok(time <= 1.2 * ((400 * CHUNK) / origin.rate));
  });

  test('what a node that falls silent was to fetch is taken over within a second, and nothing else crosses twice', () => {
    const chunks = 768;
    const model = new Model([origin, ...site(4, 1000 * MBIT)], chunks);
    const bound = (chunks * CHUNK) / origin.rate;
    const died = bound / 2;
    let lost = 0;
    model.at(died, () => {
      model.kill('n1');
      const others = [...model.nodes.values()].filter(({ id }) => id !== 'n1' && id !== 'origin');
      // What left the origin for the dead one, and what of that nobody else has.
      for (let index = 0; index < chunks; index += 1)
        if (model.node('origin').sent[index] && !others.some(({ have }) => have.has(index))) lost += 1;
    });
    const time = model.run();
    for (const { id, have } of model.nodes.values()) assert.ok(id === 'n1' || have.complete, `${id} is not complete`);
    assert.ok(time <= bound + (lost * CHUNK) / origin.rate + 1_000, `${time} ms, ${bound} without the death`);
    assert.ok(model.copies('origin') <= 1 + (lost + 40) / chunks, `${model.copies('origin')} copies, ${lost} lost`);
  });

  test('a silent uploader costs less than 200 ms of progress', () => {
    const chunks = 800;
    const uploaders = ['a', 'b', 'c'].map((id) => ({ id, site: 'edge', rate: 100 * MBIT, seed: true }));
    const node = { id: 'n', site: 'edge', rate: 1000 * MBIT };
    const model = new Model([...uploaders, node], chunks);
    const died = 500;
    model.at(died, () => model.kill('a'));
    const time = model.run();
    const soFar = model.node('n').cameAt.filter((at) => at <= died).length;
    const ideal = died + ((chunks - soFar) * CHUNK) / (2 * 100 * MBIT);
    assert.ok(model.node('n').have.complete);
    assert.ok(time - ideal < 200, `${time - ideal} ms lost`);
    const pause = model.node('n').cameAt.map((at, n, all) => at - (all[n - 1] ?? 0));
    assert.ok(Math.max(...pause) < 200, `nothing came for ${Math.max(...pause)} ms`);
  });

  test('the last chunk is not waited for: another uploader is asked when the first does not deliver', () => {
    const uploaders = ['a', 'b'].map((id) => ({ id, site: 'edge', rate: 100 * MBIT, seed: true }));
    const model = new Model([...uploaders, { id: 'n', site: 'edge', rate: 1000 * MBIT }], 40);
    const bound = (40 * CHUNK) / (200 * MBIT);
    model.at(bound - 20, () => model.kill('a'));
    const time = model.run();
    assert.ok(time <= bound + 500, `${time} ms instead of ${bound}`);
  });

  test('nodes far apart in speed all finish, and a slow one keeps nobody', () => {
    const slow = { id: 'slow', site: 'edge', rate: 4 * MBIT };
    const model = new Model([origin, ...site(4, 1000 * MBIT), slow], 800);
    model.run(200_000);
    const bound = (800 * CHUNK) / origin.rate;
    for (const { id, finishedAt = Number.POSITIVE_INFINITY } of model.nodes.values())
      if (id.startsWith('n')) assert.ok(finishedAt <= 1.3 * bound, `${id} took ${finishedAt / bound} of the bound`);
    assert.ok(model.node('slow').have.complete);
    assert.ok(model.copies('origin') <= 1.05, `${model.copies('origin')} copies left the origin`);
  });

  test('a source that was given up and sends after all is asked again at once, and need not rest', () => {
    const window = new Window();
    const source = { id: 'far', near: false, map: HaveMap.full(8), wants: false, outside: true, window };
    const sizes = new Uint32Array(8).fill(CHUNK);
    const download = new Download({ self: 'n', sizes, have: new HaveMap(8), random: () => 0.5 });
    download.join(source, 0);
    const indexes = download.plan(0, { budget: 4 * CHUNK }).asks.flatMap((ask) => ask.indexes);
    assert.equal(indexes.length, 4);
    for (const _ of indexes) window.asked(CHUNK, 0);
    const late = download.plan(10_000, { budget: 4 * CHUNK });
    assert.deepEqual(late.stalled, ['far']);
    for (const _ of indexes) window.released(CHUNK);
    assert.deepEqual(download.plan(10_010, { budget: 4 * CHUNK }).asks, []);
    assert.ok(download.delivered('far', indexes[0] ?? -1, 10_020));
    assert.equal(download.plan(10_030, { budget: 4 * CHUNK }).asks[0]?.peer, 'far');
  });

  test('peers outside are asked for little together, and a slow one keeps nobody waiting for longer than a second', () => {
    const peers = outsiders(9, 64);
    const download = new Download({ self: 'n', sizes: sizes(64), have: new HaveMap(64), random: () => 0.5 });
    for (const peer of peers) download.join(peer, 0);
    const ask = (now: number) => asked(download, peers, now);
    assert.equal(ask(0).length, 4, '256 KiB of all nine');
    assert.equal(download.wakeAt(0), 1_000);
    assert.equal(ask(900).length, 0);
    assert.equal(download.wakeAt(900), 1_000);
    const others = ask(1_000);
    assert.equal(others.length, 4);
    assert.ok(others.every(({ peer }) => peer !== undefined && download.inFlight === 8));
  });

  test('of peers outside the one that will answer first is asked, not the one that has least to do', () => {
    const peers = outsiders(2, 64);
    const [fast, slow] = peers;
    const download = new Download({ self: 'n', sizes: sizes(64), have: new HaveMap(64), random: () => 0.5 });
    for (const peer of peers) download.join(peer, 0);
    for (const [peer, each] of [
      [fast, 10],
      [slow, 200],
    ] as const) {
      peer?.window.asked(20 * CHUNK, 0);
      for (let n = 1; n <= 20; n += 1) peer?.window.delivered(CHUNK, n * each, n * each);
    }
    const next = asked(download, peers, 5_000);
    assert.equal(next.length, 4);
    assert.ok(next.every(({ peer }) => peer === fast));
  });
});

function sizes(count: number): Uint32Array {
  return new Uint32Array(count).fill(CHUNK);
}

function outsiders(count: number, chunks: number): RemotePeer[] {
  return Array.from({ length: count }, (_, n) => ({
    id: `far-${n}`,
    near: false,
    map: HaveMap.full(chunks),
    wants: false,
    outside: true,
    window: new Window(FAR_PATIENCE),
  }));
}

/** Carries out a plan, and tells the windows. */
function asked(download: Download, peers: readonly RemotePeer[], now: number) {
  return download.plan(now, { budget: 64 * CHUNK }).asks.flatMap(({ peer: id, indexes }) =>
    indexes.map((index) => {
      const peer = peers.find((one) => one.id === id) as RemotePeer;
      peer.window.asked(CHUNK, now);
      return { peer, index };
    }),
  );
}
