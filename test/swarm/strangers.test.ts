import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import { type GossipSub, gossipsub } from '@libp2p/gossipsub';
import { type Identify, identify } from '@libp2p/identify';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { tcp } from '@libp2p/tcp';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import { createLibp2p, type Libp2p } from 'libp2p';
import { PORTER_DEFAULTS } from '../../src/limits/porter.ts';
import { Fleet } from './fleet.ts';

const TOPIC = 'news';
const STRANGERS = 50;

type Stranger = Libp2p<{ identify: Identify; pubsub: GossipSub }>;

/** Not 127.0.0.1, where the members are. */
function ownAddress(n: number): string {
  return `127.0.${1 + (n >> 7)}.${1 + (n & 127)}`;
}

/** A libp2p node that would talk to anybody about anything. */
async function newStranger(n: number): Promise<Stranger> {
  const dialOpts = { noDelay: true, localAddress: ownAddress(n) };
  const node: Stranger = await createLibp2p({
    transports: [tcp({ dialOpts })],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
    services: { identify: identify(), pubsub: gossipsub({ allowPublishToZeroTopicPeers: true }) },
  });
  node.services.pubsub.subscribe(TOPIC);
  return node;
}

/** Knocks until the signal; resolves to how often. */
async function knock(node: Stranger, at: Multiaddr, signal: AbortSignal): Promise<number> {
  let knocks = 0;
  for (; !signal.aborted; knocks += 1) {
    const connection = await node.dial(at, { signal }).catch(() => undefined);
    await connection?.newStream('/bootmesh/document/1.0.0', { signal }).catch(() => undefined);
    await delay(5);
  }
  return knocks;
}

suite('strangers at the swarm’s port', { timeout: 60_000 }, () => {
  test('get no connection, no stream and no place in gossip, while a member comes in', async () => {
    await using fleet = new Fleet();
    await using stack = new AsyncDisposableStack();
    const { swarm: host } = await fleet.node();
    const heard: string[] = [];
    host.documents.subscribe(TOPIC, (bytes) => {
      heard.push(Buffer.from(bytes).toString());
      return 'accept';
    });
    const strangers = await Promise.all(Array.from({ length: STRANGERS }, (_, n) => newStranger(n)));
    for (const node of strangers) stack.defer(() => node.stop());
    const over = new AbortController();
    stack.defer(() => over.abort());
    const at = multiaddr(host.addresses()[0]);
    const knocking = strangers.map((node) => knock(node, at, over.signal));
    const greeted = new Set<string>();
    host.events.on('peer:connect', ({ peerId }) => greeted.add(peerId));
    await delay(500);
    const { swarm: member } = await fleet.node();
    const from = performance.now();
    while (!host.connected().includes(member.peerId)) {
      assert.ok(performance.now() - from < 10_000, 'the member is kept out');
      await delay(20);
    }
    for (const node of strangers) void node.services.pubsub.publish(TOPIC, Buffer.from('lies'));
    await delay(500);
    over.abort();
    const knocks = (await Promise.all(knocking)).reduce((sum, each) => sum + each, 0);
    assert.ok(knocks > STRANGERS, `${knocks}`);
    assert.deepEqual([...greeted], [member.peerId]);
    assert.deepEqual(heard, []);
    for (const { services } of strangers) assert.deepEqual(services.pubsub.getPeers(), [], 'a stream for gossip');
  });

  test('wait in small number when they say nothing, and a place is left for the member that is expected', async () => {
    await using fleet = new Fleet();
    await using stack = new AsyncDisposableStack();
    const privateKey = await fleet.key();
    const peerId = peerIdFromPrivateKey(privateKey).toString();
    // Nothing listens there, but this is where it is expected to come from.
    const expected = { peerId, site: 'edge', addresses: ['/ip4/127.0.0.1/tcp/9'] };
    const { swarm: host } = await fleet.node({ options: { members: [expected] } });
    const port = Number(host.addresses()[0]?.split('/')[4]);
    const open = new Set<Socket>();
    let [again, over] = [false, false];
    stack.defer(() => {
      over = true;
      for (const socket of open) socket.destroy();
    });
    const sit = (n: number) => {
      if (over) return;
      const socket = connect({ host: '127.0.0.1', port, localAddress: ownAddress(n) });
      open.add(socket.resume().on('error', () => undefined));
      socket.on('close', () => {
        open.delete(socket);
        if (again) setTimeout(() => sit(n), 20);
      });
    };
    for (let n = 0; n < 3 * PORTER_DEFAULTS.strangers; n += 1) sit(n);
    // Sooner than silence ends them all.
    for (const until = performance.now() + 3_000; open.size > PORTER_DEFAULTS.strangers; await delay(10)) {
      assert.ok(performance.now() < until, `${open.size} wait`);
    }
    assert.ok(open.size > PORTER_DEFAULTS.strangers / 2, `${open.size} wait`);
    again = true;
    for (let n = 0; n < 2 * PORTER_DEFAULTS.strangers; n += 1) sit(n);
    const { swarm: member } = await fleet.node({ privateKey });
    const from = performance.now();
    while (!host.connected().includes(member.peerId)) {
      assert.ok(performance.now() - from < 3_000, 'the member is kept waiting');
      await delay(20);
    }
  });
});
