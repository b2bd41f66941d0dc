import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import { tcp } from '@libp2p/tcp';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { type Applicant, Door } from '../../src/admission/door.ts';
import { type KnockFacts, knock } from '../../src/admission/knock.ts';
import { AdmissionRefused, type RefusalReason } from '../../src/admission/refusal.ts';
import type { Token } from '../../src/admission/token.ts';
import { loadIdentity } from '../../src/fleet/identity.ts';
import { loadWireguardKey, newWireguardKey, type WireguardKey } from '../../src/fleet/wireguard-key.ts';
import { silentLog } from '../../src/observe/log.ts';

const ROOT = Buffer.from('a root');
const WELCOME = {
  root: ROOT,
  documents: new Map([['1.root.json', ROOT]]),
  statements: [Buffer.from('certificate')],
};
const LISTEN = ['/ip4/127.0.0.1/tcp/0'];

async function scene(t: TestContext, answers: Partial<Pick<Door & DoorAnswers, 'consider' | 'admit'>> = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'bm-door-'));
  const [host, guest] = [await loadIdentity(join(folder, 'host')), await loadIdentity(join(folder, 'guest'))];
  const admitted: Applicant[] = [];
  const door = await Door.open(
    {
      privateKey: host.privateKey,
      log: silentLog,
      consider: () => undefined,
      admit: async (applicant) => {
        admitted.push(applicant);
        return WELCOME;
      },
      ...answers,
    },
    { listen: LISTEN, connections: 4 },
  );
  t.after(async () => {
    await door[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });
  const token: Token = {
    rootDigest: createHash('sha256').update(ROOT).digest('hex'),
    peerId: host.peerId,
    addresses: door.addresses(),
    secret: randomBytes(16),
    notAfter: Math.floor(Date.now() / 1000) + 60,
  };
  const wireguardKey = await loadWireguardKey(join(folder, 'guest'));
  const machine = ['mac:52:54:00:12:34:56', 'no such thing'];
  const facts = { door: token, privateKey: guest.privateKey, wireguardKey, name: 'guest', machine };
  const ask = (more: Partial<KnockFacts> = {}, patienceMs = 0) =>
    knock({ ...facts, ...more }, { signal: AbortSignal.timeout(20_000), patienceMs });
  return { door, token, guest, admitted, wireguardKey, ask };
}

interface DoorAnswers {
  consider(applicant: Applicant): void;
  admit(applicant: Applicant): Promise<typeof WELCOME>;
}

function refused(reason: RefusalReason, message?: RegExp) {
  return (error: unknown) =>
    error instanceof AdmissionRefused && error.reason === reason && (message?.test(error.message) ?? true);
}

suite('door', { timeout: 60_000 }, () => {
  test('lets in who is invited, with the keys that it has proven', async (t) => {
    const { ask, admitted, guest, token, wireguardKey } = await scene(t);
    const { root, documents, statements } = await ask();
    assert.deepEqual(Buffer.from(root), ROOT);
    assert.deepEqual([[...documents.keys()], Buffer.concat(statements).toString()], [['1.root.json'], 'certificate']);
    const [applicant] = admitted;
    assert.partialDeepStrictEqual(applicant, {
      peerId: guest.peerId,
      name: 'guest',
      wireguardKey: wireguardKey.publicKey,
      machine: ['mac:52:54:00:12:34:56'],
    });
    assert.deepEqual(applicant && Buffer.from(applicant.secret), token.secret);
  });

  test('says why not, at once or after the proof, and never its own troubles', async (t) => {
    const no = new AdmissionRefused('used', 'it was used: ask for a new one');
    const early = await scene(t, {
      consider: () => {
        throw no;
      },
    });
    await assert.rejects(early.ask(), refused('used', /ask for a new one/));
    const late = await scene(t, { admit: () => Promise.reject(no) });
    await assert.rejects(late.ask(), refused('used', /ask for a new one/));
    const broken = await scene(t, { admit: () => Promise.reject(new Error('ENOSPC /secret/place')) });
    await assert.rejects(broken.ask(), refused('busy', /^(?!.*secret)/));
  });

  test('what it says to people has nothing in it that a terminal obeys, at either end', async (t) => {
    const { ask, admitted } = await scene(t);
    await ask({ name: '\u001b]0;owned\u0007edge\n7' });
    assert.equal(admitted[0]?.name, ']0;ownededge7');
    const hostile = await scene(t, { admit: () => Promise.reject(new AdmissionRefused('used', '\u001b[2Jno\n')) });
    await assert.rejects(hostile.ask(), refused('used', /^\[2Jno$/));
  });

  test('a WireGuard key that the machine does not have is refused before anybody is admitted', async (t) => {
    const { ask, admitted, wireguardKey } = await scene(t);
    const stolen: WireguardKey = { ...wireguardKey, privateKey: newWireguardKey() };
    await assert.rejects(ask({ wireguardKey: stolen }), refused('proof'));
    assert.deepEqual(admitted, []);
  });

  test('another key behind the token’s address is not the door, nor is another fleet', async (t) => {
    const { ask, token, admitted } = await scene(t);
    const elsewhere = await scene(t);
    await assert.rejects(ask({ door: { ...token, peerId: elsewhere.token.peerId } }), refused('unreachable'));
    assert.deepEqual(admitted, []);
    await assert.rejects(ask({ door: { ...token, rootDigest: 'ff'.repeat(32) } }), refused('fleet'));
  });

  test('nobody there: the message says where, or that the token’s time is over', async (t) => {
    const { ask, token, door } = await scene(t);
    await door[Symbol.asyncDispose]();
    await assert.rejects(ask(), refused('unreachable', /127\.0\.0\.1/));
    await assert.rejects(ask({ door: { ...token, notAfter: 1 } }), refused('expired', /1970/));
  });

  test('a clock that is wrong is told before the token is used up', async (t) => {
    const { ask, admitted } = await scene(t);
    const now = Date.now();
    t.mock.method(Date, 'now', () => now + (new Error().stack?.includes('knock.ts') ? 3_600_000 : 0));
    await assert.rejects(ask(), refused('clock', /60 min ahead/));
    assert.deepEqual(admitted, []);
  });

  test('who says nothing, or anything, is sent away, and others still come in', async (t) => {
    const { ask, token, guest } = await scene(t);
    const [, , host = '', , port = ''] = (token.addresses[0] ?? '').split('/');
    const idle = Array.from({ length: 3 }, () => connect(Number(port), host));
    for (const socket of idle) socket.on('error', () => undefined);
    const noisy = connect(Number(port), host);
    noisy.on('error', () => undefined);
    noisy.write(randomBytes(100_000));
    await ask({}, 15_000);
    for (const socket of [...idle, noisy]) socket.destroy();
    const stranger = await createLibp2p({
      privateKey: guest.privateKey,
      addresses: { listen: [] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      connectionMonitor: { enabled: false },
    });
    t.after(() => stranger.stop());
    const door = multiaddr(`${token.addresses[0]}/p2p/${token.peerId}`);
    const signal = AbortSignal.timeout(10_000);
    let connection = await stranger.dial(door).catch(() => undefined);
    // Those who were just sent away may not have left yet.
    while (connection === undefined && !signal.aborted) connection = await stranger.dial(door).catch(() => undefined);
    assert.ok(connection);
    await assert.rejects(connection.newStream('/bootmesh/exchange/1.0.0'), 'nothing but the admission protocol');
    const stream = await connection.newStream('/bootmesh/admit/1.0.0');
    stream.send(randomBytes(64 * 1024));
    await new Promise((resolve) => stream.addEventListener('close', resolve, { once: true }));
    await ask({}, 15_000);
  });
});
