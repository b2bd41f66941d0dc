import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { LaneOptions } from '../../src/swarm/lane-policy.ts';
import { content, Fleet, fill, holdsAll, type NodePlan, soon } from './fleet.ts';
import { LyingStore } from './stores.ts';

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
    const liar = await fleet.node({ store: new LyingStore(), options });
    const victim = await fleet.node({ options });
    const honest = content(40);
    await fill(liar.store, honest.chunks);
    await liar.swarm.share(honest.set);
    const refusals: string[] = [];
    victim.swarm.events.on('chunk:refuse', () => refusals.push(victim.swarm.peers()[0]?.lane ?? 'none'));
    const banned = new Promise((resolve) => victim.swarm.events.once('peer:ban', resolve));
    const abort = new AbortController();
    const download = victim.swarm.download(honest.set, { priority: 'foreground', signal: abort.signal });
    await banned;
    abort.abort(new Error('enough'));
    await assert.rejects(download);
    assert.equal(await holdsAll(victim.store, honest.chunks), false);
  });

  test('a network that is none is refused before anything starts', async () => {
    await using fleet = new Fleet();
    await assert.rejects(fleet.node(lanes({ trusted: ['10.0.0.0'] })), RangeError);
  });
});
