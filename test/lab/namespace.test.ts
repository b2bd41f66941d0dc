import assert from 'node:assert/strict';
import { once } from 'node:events';
import { before, test } from 'node:test';
import { connect, createNamespace, listNamespaces, Namespace } from '../../src/lab/namespace.ts';
import { missingRequirements } from '../../src/lab/requirements.ts';
import { parseCounter, readCounter, shape } from '../../src/lab/shaping.ts';

const missing = await missingRequirements();
const skip = missing.length > 0 && `no network namespaces here: ${missing.join('; ')}`;
const PREFIX = `bm-t${process.pid}-`;
const MEGABYTE = 1e6;

before(async () => assert.deepEqual(await listNamespaces(PREFIX), []));

test('two namespaces on one switch reach each other over both families at once', { skip }, async () => {
  await using stack = new AsyncDisposableStack();
  const [a, b, hub] = await Promise.all(['a', 'b', 'hub'].map((name) => createNamespace(`${PREFIX}${name}`)));
  assert.ok(a && b && hub);
  for (const namespace of [a, b, hub]) stack.use(namespace);
  await hub.addBridge('br0');
  await hub.addTap('tap0', 'br0');
  const [ofA, ofB] = [
    { namespace: a, interface: 'eth0' },
    { namespace: b, interface: 'eth0' },
  ];
  const port = (name: string) => ({ namespace: hub, interface: name, bridge: 'br0' });
  await connect({ ...ofA, addresses: ['10.77.1.1/24', 'fd00::1/64'] }, port('p1'));
  await connect({ ...ofB, addresses: ['10.77.1.2/24', 'fd00::2/64'], mac: '02:77:00:00:00:02' }, port('p2'));
  await serve(b, MEGABYTE);
  for (const host of ['10.77.1.2', 'fd00::2']) assert.equal(await fetchBytes(a, host), MEGABYTE);
  assert.match((await b.ip('link', 'show', 'eth0')).stdout, /02:77:00:00:00:02/);
  await hub.removeInterface('p2');
  await hub.removeInterface('p2');
  await assert.rejects(a.run(['false']), { code: 'COMMAND_FAILED', exitCode: 1 });
  await assert.rejects(hub.addBridge('a-name-that-is-too-long'), /'a-name-that-is-too-long' cannot name an interface/);
});

test('disposing ends what runs in a namespace, and again does nothing', { skip }, async () => {
  const namespace = await createNamespace(`${PREFIX}c`);
  const child = namespace.spawn(['sleep', '1000']);
  const exit = once(child, 'exit');
  await once(child, 'spawn');
  await namespace[Symbol.asyncDispose]();
  assert.deepEqual(await exit, [null, 'SIGKILL']);
  await namespace[Symbol.asyncDispose]();
  assert.equal(await namespace.exists(), false);
  assert.deepEqual(await new Namespace(`${PREFIX}never`).pids(), []);
});

test('a class counts the bytes of the wire, headers and all, and holds its rate', { skip }, async () => {
  await using a = await createNamespace(`${PREFIX}d`);
  await using b = await createNamespace(`${PREFIX}e`);
  const [ofA, ofB] = [
    { namespace: a, interface: 'eth0' },
    { namespace: b, interface: 'eth0' },
  ];
  await connect({ ...ofA, addresses: ['10.77.1.1/24'] }, { ...ofB, addresses: ['10.77.1.2/24'] });
  const rate = 32e6;
  await shape(b, 'eth0', rate);
  const size = 4 * MEGABYTE;
  await serve(b, size);
  const start = performance.now();
  assert.equal(await fetchBytes(a, '10.77.1.2'), size);
  const seconds = (performance.now() - start) / 1000;
  const { bytes, packets } = await readCounter(b, 'eth0');
  // 66 bytes of Ethernet, IPv4 and TCP headers on at most 1448 of payload, and some acknowledgements.
  assert.ok(bytes >= size * (1 + 66 / 1448) && bytes <= size * 1.06, `${bytes} bytes counted for ${size}`);
  assert.ok(packets >= size / 1448, `${packets} packets`);
  // One burst may leave at once. Only too fast is wrong: this machine may be busy.
  assert.ok(seconds >= (size - 64 * 1024) / (rate / 8), `${size} bytes in ${seconds} s at ${rate} bit/s`);
  await assert.rejects(readCounter(a, 'eth0'), /is not shaped/);
});

test("tc's words are understood, and others are not", () => {
  const text = `class htb 1:1 root leaf 10: prio 0 rate 20Mbit ceil 20Mbit burst 64Kb cburst 64Kb
 Sent 52279734 bytes 34539 pkt (dropped 7, overlimits 61 requeues 0)
 backlog 0b 0p requeues 0
`;
  assert.deepEqual(parseCounter(text), { bytes: 52279734, packets: 34539, drops: 7 });
  assert.equal(parseCounter(text.replace('1:1 root', '1:2 root')), undefined);
  assert.equal(parseCounter(''), undefined);
});

/** Sends `bytes` zeros to whoever connects to port 99, until its namespace goes away. */
async function serve(namespace: Namespace, bytes: number): Promise<void> {
  const script = `require('net').createServer((s) => s.end(Buffer.alloc(${bytes}))).listen(99, '::', () => console.log('up'))`;
  const child = namespace.spawn([process.execPath, '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  assert.ok(child.stdout);
  await once(child.stdout, 'data');
}

async function fetchBytes(namespace: Namespace, host: string): Promise<number> {
  const script = `let n = 0; require('net').connect(99, '${host}').on('data', (d) => n += d.length).on('close', () => console.log(n))`;
  return Number((await namespace.run([process.execPath, '-e', script])).stdout);
}
