import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import { generateKeyPair } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { createNode } from '../../src/swarm/node.ts';
import { VOUCHED_PROTOCOL, type Vouching } from '../../src/swarm/vouched.ts';

/** A node that admits whom it knows, and whoever shows `word`. */
async function nodeOf(
  t: TestContext,
  { word, own, known = [], farewell }: { word?: string; own?: string; known?: string[]; farewell?: string },
) {
  const privateKey = await generateKeyPair('Ed25519');
  const admitted = new Set(known);
  const shown: string[] = [];
  const vouching: Vouching = {
    own: () => Buffer.from(own ?? ''),
    shown: (peerId, bytes) => {
      shown.push(Buffer.from(bytes).toString());
      if (Buffer.from(bytes).toString() === word) admitted.add(peerId);
      return admitted.has(peerId);
    },
    ...(farewell !== undefined && { farewell: () => Buffer.from(farewell) }),
  };
  const gate = {
    denyInboundEncryptedConnection: (peer: object) => !admitted.has(peer.toString()),
    denyOutboundEncryptedConnection: (peer: object) => !admitted.has(peer.toString()),
  };
  const facts = { privateKey, gate, admits: () => true, vouching: own === undefined ? undefined : vouching };
  const options = { listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false, dialTimeoutMs: 3_000 };
  const node = await createNode(facts, options);
  t.after(() => node.stop());
  const peerId = peerIdFromPrivateKey(privateKey).toString();
  return { node, peerId, admitted, shown };
}

async function settle(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 200));
}

suite('vouched', { timeout: 60_000 }, () => {
  test('who shows what counts is let in, though nobody knew it, at both ends', async (t) => {
    const host = await nodeOf(t, { word: 'guest', own: 'host' });
    const guest = await nodeOf(t, { word: 'host', own: 'guest' });
    const connection = await guest.node.dial(host.node.getMultiaddrs());
    assert.equal(connection.encryption, VOUCHED_PROTOCOL);
    await guest.node.services.ping.ping(host.node.peerId);
    assert.deepEqual([host.shown, guest.shown], [['guest'], ['host']]);
  });

  test('who shows nothing, or something else, is not', async (t) => {
    const host = await nodeOf(t, { word: 'guest', own: 'host' });
    for (const own of ['', 'somebody', undefined]) {
      const guest = await nodeOf(t, { word: 'host', known: [host.peerId], ...(own !== undefined && { own }) });
      await guest.node.dial(host.node.getMultiaddrs()).catch(() => undefined);
      await settle();
      assert.deepEqual(host.node.getPeers(), [], `${own}`);
      assert.ok(!guest.shown.includes('host'), 'and is shown nothing');
    }
  });

  test('who is none of us any more is told why before it is sent away; who is one of us is not', async (t) => {
    const host = await nodeOf(t, { word: 'guest', own: 'host', farewell: 'you were revoked' });
    const [gone, guest] = [await nodeOf(t, { own: 'gone' }), await nodeOf(t, { word: 'host', own: 'guest' })];
    gone.admitted.add(host.peerId);
    await gone.node.dial(host.node.getMultiaddrs()).catch(() => undefined);
    await guest.node.dial(host.node.getMultiaddrs());
    await settle();
    assert.deepEqual([gone.shown, guest.shown], [['you were revoked'], ['host']]);
    assert.deepEqual(host.node.getPeers().map(String), [guest.peerId]);
  });

  test('more than a certificate ends the connection', async (t) => {
    const host = await nodeOf(t, { word: 'x'.repeat(1025), own: 'host' });
    const guest = await nodeOf(t, { word: 'host', own: 'x'.repeat(1025) });
    await guest.node.dial(host.node.getMultiaddrs()).catch(() => undefined);
    await settle();
    assert.deepEqual([host.node.getPeers(), host.shown], [[], []]);
  });

  test('one that shows nothing, since its fleet has no certificates, is judged by what is known of it', async (t) => {
    const plain = await nodeOf(t, {});
    const host = await nodeOf(t, { own: 'host', known: [plain.peerId] });
    plain.admitted.add(host.peerId);
    const connection = await plain.node.dial(host.node.getMultiaddrs());
    assert.equal(connection.encryption, '/noise');
    await plain.node.services.ping.ping(host.node.peerId);
  });
});
