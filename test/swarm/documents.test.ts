import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { BadAnswer } from '../../src/swarm/documents.ts';
import type { Swarm } from '../../src/swarm/swarm.ts';
import { Fleet } from './fleet.ts';

const text = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString();
const ask = (maxBytes = 1024) => ({ signal: AbortSignal.timeout(10_000), maxBytes });

function linked(swarm: Swarm): Promise<string> {
  return new Promise((resolve) => swarm.documents.onConnect(resolve));
}

suite('documents', { timeout: 60_000 }, () => {
  test('are asked for by name: the longest prefix answers; missing, too large and failing are told apart', async () => {
    await using fleet = new Fleet();
    const { swarm: a } = await fleet.node();
    a.documents.serve('release/', async (name, from) => Buffer.from(`${name} for ${from.slice(0, 8)}`));
    a.documents.serve('release/none/', async () => undefined);
    a.documents.serve('release/broken/', async () => {
      throw new Error('no');
    });
    const { swarm: b } = await fleet.node();
    assert.equal(await linked(b), a.peerId);
    assert.deepEqual(b.documents.peers(), [a.peerId]);
    assert.equal(text(await b.documents.ask(a.peerId, 'release/x', ask())), `release/x for ${b.peerId.slice(0, 8)}`);
    assert.equal(await b.documents.ask(a.peerId, 'release/none/x', ask()), undefined);
    assert.equal(await b.documents.ask(a.peerId, 'other', ask()), undefined);
    assert.equal(await b.documents.ask(a.peerId, 'release/x', ask(5)), undefined);
    await assert.rejects(b.documents.ask(a.peerId, 'release/broken/x', ask()), BadAnswer);
    await assert.rejects(b.documents.ask(a.peerId, `release/${'x'.repeat(5000)}`, ask()), BadAnswer);
    assert.equal(text(await b.documents.ask(a.peerId, 'release/y', ask()))?.startsWith('release/y'), true);
  });

  test('are gossiped to those who subscribed, also through others, and only when small', async () => {
    await using fleet = new Fleet();
    const { swarm: middle } = await fleet.node();
    const { swarm: author } = await fleet.node({ undialled: true });
    const { swarm: reader } = await fleet.node();
    const heard = new Promise<{ bytes: Uint8Array; from: string }>((resolve) => {
      reader.documents.subscribe('channel', (bytes, from) => {
        resolve({ bytes, from });
        return 'accept';
      });
    });
    middle.documents.subscribe('channel', () => 'accept');
    author.documents.subscribe('channel', () => 'accept');
    await assert.rejects(author.documents.announce('channel', new Uint8Array(16 * 1024 + 1)), RangeError);
    // The mesh forms within a heartbeat or two: say it until somebody hears.
    const again = setInterval(
      () => void author.documents.announce('channel', Buffer.from(`hello ${Math.random()}`)),
      100,
    );
    try {
      const { bytes, from } = await heard;
      assert.match(text(bytes) ?? '', /^hello/);
      assert.equal(from, author.peerId);
    } finally {
      clearInterval(again);
    }
  });
});
