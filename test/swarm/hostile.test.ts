import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import type { PrivateKey, Stream } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { tcp } from '@libp2p/tcp';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import { createLibp2p, type Libp2p } from 'libp2p';
import { CID } from 'multiformats/cid';
import { chunkCid } from '../../src/content/chunk.ts';
import { ChunkSet } from '../../src/content/chunk-set.ts';
import { encodeMessage, type Message } from '../../src/exchange/message.ts';
import { AGENT_ENV, AGENT_FLAGS } from '../../src/launch/agent-process.js';
import { silentLog } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { createSwarm } from '../../src/swarm/swarm.ts';
import { TRANSPORT } from '../../src/swarm/transport.ts';
import { MemoryStore } from '../fakes/memory-store.ts';
import { soon } from './fleet.ts';
import type { VictimReport } from './victim.ts';

const EXCHANGE = '/bootmesh/exchange/1.0.0';
const LANE = '/bootmesh/lane/1.0.0';
const SEED = 9;
const MESSAGES = 10_000;
const MAX_HELD = 5e6;
const MAX_GROWTH = 20e6;

suite('a swarm under attack', { timeout: 120_000 }, () => {
  test('10^4 hostile messages of a member and garbage on its port: it still serves, and has hardly grown', async () => {
    const victimKey = await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(SEED));
    const attackerKey = await keyBelow(idOf(victimKey));
    const friendKey = await generateKeyPair('Ed25519');
    const members = [victimKey, attackerKey, friendKey].map(idOf);
    const victim = fork(new URL('./victim.ts', import.meta.url), [JSON.stringify({ members, seed: SEED })], {
      execArgv: ['--expose-gc', ...AGENT_FLAGS],
      env: { ...process.env, ...AGENT_ENV },
    });
    try {
      const ready = await report(victim, 'ready');
      const address = multiaddr(ready.address);
      await attack(attackerKey, address, 2_000);
      const warm = await memory(victim);
      await flood(attackerKey, address);
      const before = await memory(victim);
      assert.ok(before.held - warm.held < MAX_HELD, `holds ${(before.held - warm.held) / 1e6} MB more after the first`);
      // What the first leaves in the process is the engine's: compiled code, a heap of its working size. A leak goes on.
      await flood(attackerKey, address);
      const after = await memory(victim);
      assert.ok(after.held - before.held < MAX_HELD, `holds ${(after.held - before.held) / 1e6} MB more`);
      assert.ok(after.rss - before.rss < MAX_GROWTH, `is ${(after.rss - before.rss) / 1e6} MB larger`);

      const set = new ChunkSet(
        CID.parse(ready.set),
        ready.chunks.map(({ cid, size }) => ({ cid: CID.parse(cid), size })),
      );
      const site = { site: 'edge' };
      const store = new MemoryStore();
      await using friend = await createSwarm(
        {
          store,
          membership: {
            member: () => site,
            members: [{ ...site, peerId: idOf(victimKey), addresses: [ready.address] }],
          },
          privateKey: friendKey,
          log: silentLog,
          metrics: createMetrics(),
        },
        { listen: [] },
      );
      assert.equal((await friend.download(set, soon())).bytes, set.bytes);
    } finally {
      victim.kill('SIGKILL');
    }
  });
});

async function flood(privateKey: PrivateKey, address: Multiaddr): Promise<void> {
  await attack(privateKey, address, MESSAGES);
  await garbage(address, 200);
}

/** Sends at least `count` hostile messages, over as many connections as it takes. */
async function attack(privateKey: PrivateKey, address: Multiaddr, count: number): Promise<void> {
  const node = await createLibp2p({
    privateKey,
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux(TRANSPORT.yamux)],
    connectionMonitor: { enabled: false },
  });
  try {
    let sent = 0;
    while (sent < count) sent += await burst(node, address);
  } finally {
    await node.stop();
  }
}

/** A connection's worth: a proper hello, plausible nonsense, and something malformed at the end, which ends it. */
async function burst(node: Libp2p, address: Multiaddr): Promise<number> {
  const connection = await node.dial(address).catch(() => undefined);
  // After many connections in a second, the next ones are turned away for a moment.
  if (connection === undefined) return delay(100, 0);
  const stream = await connection.newStream(EXCHANGE).catch(() => undefined);
  if (stream === undefined) return 0;
  const closed = once(stream as unknown as EventTarget, 'close');
  let sent = 0;
  const send = (bytes: Uint8Array) => {
    if (stream.writeStatus !== 'writable') return;
    stream.send(bytes);
    sent += 1;
  };
  if (randomInt(10) > 0) send(framed(encodeMessage({ kind: 'hello', version: 1, accepts: 0, lanes: 0 })));
  for (let n = randomInt(250); n > 0; n -= 1) send(framed(encodeMessage(nonsense())));
  await pollute(connection.newStream(LANE));
  send(malformed());
  await Promise.race([closed, delay(50)]);
  await connection.close().catch(() => undefined);
  return sent;
}

async function pollute(lane: Promise<Stream>): Promise<void> {
  const stream = await lane.catch(() => undefined);
  if (stream?.writeStatus === 'writable') stream.send(randomBytes(randomInt(1, 200)));
}

function nonsense(): Message {
  const number = () => randomInt(2 ** 32 - 1);
  const numbers = () => Array.from({ length: randomInt(50) }, () => randomInt(1000));
  const kinds: Message[] = [
    { kind: 'cancel', ids: numbers() },
    { kind: 'ended', missing: numbers(), busy: numbers(), cancelled: numbers() },
    {
      kind: 'request',
      items: numbers().map((id) => ({ id, of: { handle: id, index: number() }, priority: 'urgent', like: [] })),
    },
    {
      kind: 'request',
      items: numbers().map((id) => ({ id, of: { cid: chunkCid(randomBytes(4)) }, priority: 'background', like: [] })),
    },
    { kind: 'unsubscribe', handle: number() },
    { kind: 'decline', handle: number() },
    {
      kind: 'have',
      handle: number(),
      added: numbers(),
      claimed: numbers(),
      unclaimed: [],
      lost: numbers(),
      wants: true,
      outside: true,
    },
    {
      kind: 'subscribe',
      handle: number(),
      set: chunkCid(randomBytes(4)),
      chunks: 1 << 20,
      have: 'all',
      wants: true,
      outside: true,
      claimed: numbers(),
    },
  ];
  return kinds[randomInt(kinds.length)] ?? { kind: 'cancel', ids: [] };
}

function malformed(): Uint8Array {
  const message = framed(encodeMessage(nonsense()));
  const forms = [
    () => Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x7f),
    () => Uint8Array.of(0),
    () => framed(randomBytes(randomInt(1, 400))),
    () => message.subarray(0, randomInt(1, message.length)),
    () => framed(encodeMessage({ kind: 'hello', version: 1, accepts: 0, lanes: 0 })),
    () => Buffer.concat([Uint8Array.of(0x80, 0x80, 0x09), randomBytes(2_000)]),
  ];
  return forms[randomInt(forms.length)]?.() ?? randomBytes(8);
}

/** Length-prefixed as the control stream is. */
function framed(bytes: Uint8Array): Uint8Array {
  const prefix: number[] = [];
  let rest = bytes.length;
  for (; rest >= 0x80; rest >>>= 7) prefix.push((rest & 0x7f) | 0x80);
  return Buffer.concat([Uint8Array.of(...prefix, rest), bytes]);
}

async function garbage(address: Multiaddr, times: number): Promise<void> {
  const { port } = new URL(`http://${address.toString().replace(/^\/ip4\/([^/]+)\/tcp\/(\d+).*$/, '$1:$2')}`);
  for (let n = 0; n < times; n += 1) {
    const socket = connect(Number(port), '127.0.0.1').on('error', () => undefined);
    socket.write(randomBytes(randomInt(1, 4_000)), () => setImmediate(() => socket.destroy()));
    await new Promise((resolve) => socket.once('close', resolve));
  }
}

/** The exchange is opened by the peer with the smaller id: the attacker wants to be that one. */
async function keyBelow(id: string): Promise<PrivateKey> {
  for (;;) {
    const key = await generateKeyPair('Ed25519');
    if (idOf(key) < id) return key;
  }
}

function idOf(key: PrivateKey): string {
  return peerIdFromPrivateKey(key).toString();
}

async function memory(victim: ChildProcess): Promise<Extract<VictimReport, { said: 'memory' }>> {
  const answer = report(victim, 'memory');
  victim.send('memory');
  return answer;
}

async function report<S extends VictimReport['said']>(victim: ChildProcess, said: S) {
  const [given] = (await once(victim, 'message')) as [VictimReport];
  assert.equal(given.said, said);
  return given as Extract<VictimReport, { said: S }>;
}
