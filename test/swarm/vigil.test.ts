import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { generateKeyPair } from '@libp2p/crypto/keys';
import { multiaddr } from '@multiformats/multiaddr';
import { silentLog } from '../../src/observe/log.ts';
import { createNode, type SwarmNode } from '../../src/swarm/node.ts';
import { Vigil } from '../../src/swarm/vigil.ts';

async function started(stack: AsyncDisposableStack): Promise<SwarmNode> {
  const options = { listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false, dialTimeoutMs: 5_000 };
  const node = await createNode(
    { privateKey: await generateKeyPair('Ed25519'), gate: {}, admits: () => true },
    options,
  );
  stack.defer(() => node.stop());
  return node;
}

function watch(node: SwarmNode, heardAt: () => number | undefined = () => undefined): Vigil {
  return new Vigil({ node, log: silentLog, heardAt }, { pingMs: 20, answerMs: 300 });
}

const connections = (node: SwarmNode) => node.getConnections().map(({ id }) => id);

suite('Vigil', { timeout: 30_000 }, () => {
  test('two connections of one pair, asked from both ends at once, all stay open', async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b] = [await started(stack), await started(stack)];
    await a.dial(b.getMultiaddrs());
    await b.dial(a.getMultiaddrs(), { force: true });
    while (b.getConnections().length < 2 || a.getConnections().length < 2) await sleep(10);
    const before = [connections(a), connections(b)];
    using _a = watch(a);
    using _b = watch(b);
    await sleep(1_000);
    assert.deepEqual([connections(a), connections(b)], before);
    for (const connection of [...a.getConnections(), ...b.getConnections()]) assert.ok((connection.rtt ?? -1) >= 0);
  });

  test('a connection into the void is ended, unless the peer is heard some other way', async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b] = [await started(stack), await started(stack)];
    const through = await voidable(stack, Number(b.getMultiaddrs()[0]?.getComponents()[1]?.value));
    await a.dial(multiaddr(`/ip4/127.0.0.1/tcp/${through.port}/p2p/${b.peerId}`));
    let heard = true;
    using _ = watch(a, () => (heard ? performance.now() : undefined));
    await sleep(200);
    through.swallow();
    await sleep(700);
    assert.equal(a.getConnections().length, 1);
    heard = false;
    while (a.getConnections().length > 0) await sleep(20);
  });
});

/** A port in front of another one, which at a word forwards nothing more and says nothing of it. */
async function voidable(stack: AsyncDisposableStack, to: number) {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    const onward = connect(to, '127.0.0.1');
    sockets.push(socket, onward);
    socket.pipe(onward);
    onward.pipe(socket);
    for (const each of [socket, onward]) each.on('error', () => undefined);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  stack.defer(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const swallow = () => {
    for (const socket of sockets) socket.unpipe().pause();
  };
  return { port: (server.address() as AddressInfo).port, swallow };
}
