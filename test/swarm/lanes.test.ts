import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import { suite, test } from 'node:test';
import type { LaneOptions } from '../../src/swarm/lane-policy.ts';
import { content, Fleet, fill, holdsAll, type NodePlan, recordingLog, soon } from './fleet.ts';
import { LyingStore, SlowStore } from './stores.ts';

const LOOPBACK = ['127.0.0.0/8', '::1/128'];

/** A node that keeps asking gets a lane as soon as it stands: the bytes of the second set, if not of the first. */
async function laneOf(giver: NodePlan, taker: NodePlan): Promise<string | undefined> {
  await using fleet = new Fleet();
  const a = await fleet.node(giver);
  const b = await fleet.node(taker);
  for (let n = 0; n < 2; n += 1) {
    const { set, chunks } = content(60);
    await fill(a.store, chunks);
    await a.swarm.share(set);
    const report = await b.swarm.download(set, soon());
    assert.ok(await holdsAll(b.store, chunks));
    assert.equal(report.duplicateBytes, 0);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return b.swarm.peers()[0]?.lane;
}

function lanes(options: Partial<LaneOptions>, site = 'edge'): NodePlan {
  return { site, options: { lanes: options } };
}

suite('lanes between agents', { concurrency: false, timeout: 60_000 }, () => {
  test('neighbours use TLS by themselves, members of different sites the stream', async () => {
    assert.equal(await laneOf({}, {}), 'tls');
    assert.equal(await laneOf({ site: 'here' }, { site: 'there' }), 'stream');
  });

  test('neighbours have their lanes before anything is asked for; members of different sites ask first', async () => {
    await using fleet = new Fleet();
    const a = await fleet.node({ site: 'here' });
    await fleet.node({ site: 'here' });
    await fleet.node({ site: 'there' });
    const laneTo = (site: string) => a.swarm.peers().find((peer) => peer.site === site)?.lane;
    while (laneTo('here') !== 'tls' || laneTo('there') === undefined)
      await new Promise((resolve) => setTimeout(resolve, 10));
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(laneTo('there'), 'stream');
  });

  test('plain TCP where both ends trust the network, also between sites; each lane can be switched off', async () => {
    const trusting = { trusted: LOOPBACK };
    assert.equal(await laneOf(lanes(trusting), lanes(trusting)), 'plain');
    assert.equal(await laneOf(lanes(trusting, 'here'), lanes(trusting, 'there')), 'plain');
    assert.equal(await laneOf(lanes(trusting), lanes({})), 'tls');
    assert.equal(await laneOf(lanes(trusting), lanes({ ...trusting, plain: false })), 'tls');
    assert.equal(await laneOf(lanes({ ...trusting, tls: false }), lanes({ ...trusting, plain: false })), 'stream');
  });

  test('a segment is trusted only where the connection stays on it', async () => {
    const onSegment = { onTrustedSegment: () => true };
    assert.equal(await laneOf(lanes(onSegment), lanes(onSegment)), 'plain');
  });

  test('wrong bytes by the plain lane: the peer is heard again by one that proves it, and then banned', async () => {
    await using fleet = new Fleet();
    const options = { lanes: { trusted: LOOPBACK } };
    const store = new LyingStore();
    store.honest = true;
    const { log, lines } = recordingLog();
    const liar = await fleet.node({ store, options });
    const victim = await fleet.node({ options, log });
    const [good, bad] = [content(60), content(60)];
    for (const { set, chunks } of [good, bad]) {
      await fill(store, chunks);
      await liar.swarm.share(set);
    }
    await victim.swarm.download(good.set, soon());
    while (victim.swarm.peers()[0]?.lane !== 'plain') await new Promise((resolve) => setTimeout(resolve, 10));
    store.honest = false;
    const banned = new Promise((resolve) => victim.swarm.events.once('peer:ban', resolve));
    const abort = new AbortController();
    const download = victim.swarm.download(bad.set, { priority: 'foreground', signal: abort.signal });
    await banned;
    abort.abort(new Error('enough'));
    await assert.rejects(download);
    const by = lines.filter(({ sentence }) => sentence === 'peer sent wrong bytes').map(({ fields }) => fields['lane']);
    assert.equal(by[0], 'plain');
    assert.notEqual(by.at(-1), 'plain', 'what the ban is for came by a lane that proves who sent it');
    for (const { cid } of bad.chunks) assert.equal(await victim.store.has(cid), false);
  });

  test('a lane that is cut in the middle of a transfer: the download goes on over the next one', async () => {
    await using fleet = new Fleet();
    const { log, lines } = recordingLog();
    const options = { lanes: { trusted: LOOPBACK } };
    const dialled: Socket[] = [];
    const dials = ({ socket }: { socket: Socket }) => void dialled.push(socket);
    const giver = await fleet.node({ options, store: new SlowStore(5) });
    const taker = await fleet.node({ options, log });
    const { set, chunks } = content(600);
    await fill(giver.store, chunks);
    await giver.swarm.share(set);
    while (!taker.swarm.peers()[0]?.connected) await new Promise((resolve) => setTimeout(resolve, 10));
    subscribe('net.client.socket', dials as (message: unknown) => void);
    try {
      let cuts = 0;
      await taker.swarm.download(set, {
        ...soon(),
        onProgress: () => {
          if (taker.swarm.peers()[0]?.lane === 'stream' || cuts === 2) return;
          const lanes = dialled.splice(0);
          if (lanes.length === 0) return;
          cuts += 1;
          for (const socket of lanes) socket.destroy();
        },
      });
      assert.equal(cuts, 2);
    } finally {
      unsubscribe('net.client.socket', dials as (message: unknown) => void);
    }
    assert.ok(await holdsAll(taker.store, chunks));
    const left = lines.filter(({ sentence }) => sentence === 'fast lane left').map(({ fields }) => fields['lane']);
    assert.deepEqual(left, ['plain', 'tls']);
  });

  test('a network that is none is refused before anything starts', async () => {
    await using fleet = new Fleet();
    await assert.rejects(fleet.node(lanes({ trusted: ['10.0.0.0'] })), RangeError);
  });
});
