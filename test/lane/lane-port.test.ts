import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { suite, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { dial } from '../../src/lane/dial.ts';
import type { FastKind } from '../../src/lane/lane.ts';
import { LanePort } from '../../src/lane/lane-port.ts';
import type { Ticket } from '../../src/lane/ticket.ts';
import { silentLog } from '../../src/observe/log.ts';
import { LOOPBACK } from './pair.ts';

const KINDS: readonly FastKind[] = ['tls', 'plain'];

class Door implements AsyncDisposable {
  readonly port: LanePort;
  readonly opened: { peer: string; socket: Socket }[] = [];

  private constructor(port: LanePort) {
    this.port = port;
  }

  static async open(options: { proveMs?: number; maxStrangers?: number } = {}): Promise<Door> {
    return new Door(await LanePort.open({ log: silentLog }, { ...LOOPBACK, ...options }));
  }

  ticket(peer: string, kind: FastKind): Ticket {
    const ticket = this.port.issue(peer, { kind, diallerSends: false }, (socket) => {
      socket.on('error', () => undefined);
      this.opened.push({ peer, socket });
    });
    assert.ok(ticket);
    return ticket;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { socket } of this.opened) socket.destroy();
    await this.port[Symbol.asyncDispose]();
  }
}

/** Dials with the ticket; what arrives lands in `got`. */
async function open(ticket: Ticket, got: Buffer[] = []): Promise<Socket> {
  const socket = await dial(
    { host: '127.0.0.1', ticket, onBytes: (bytes) => void got.push(Buffer.from(bytes)) },
    { signal: AbortSignal.timeout(3_000) },
  );
  socket.on('error', () => undefined);
  return socket;
}

async function refused(ticket: Ticket, why: string): Promise<void> {
  await assert.rejects(open(ticket), (error: Error) => error.name !== 'TimeoutError', why);
}

suite('lane port', { timeout: 30_000 }, () => {
  for (const kind of KINDS) {
    test(`${kind}: a ticket opens one lane, for the peer that it was given to, and no second one`, async () => {
      await using door = await Door.open();
      const ticket = door.ticket('b', kind);
      const got: Buffer[] = [];
      using _ = closing(await open(ticket, got));
      while (door.opened.length === 0) await turn();
      const [lane] = door.opened;
      assert.equal(lane?.peer, 'b');
      const sent = randomBytes(300_000);
      lane?.socket.write(sent);
      while (Buffer.concat(got).length < sent.length) await turn();
      assert.ok(Buffer.concat(got).equals(sent));
      await refused(ticket, 'used');
      assert.equal(door.opened.length, 1);
    });

    test(`${kind}: a ticket that was guessed, revoked, or put together from two opens nothing`, async () => {
      await using door = await Door.open();
      const mine = door.ticket('a', kind);
      const theirs = door.ticket('b', kind);
      await refused({ ...mine, id: randomBytes(16), secret: randomBytes(32) }, 'never given');
      await refused({ ...theirs, secret: mine.secret }, "another peer's ticket with the own secret");
      await refused(theirs, 'the wrong try has used it up');
      const revoked = door.ticket('c', kind);
      door.port.revoke('c');
      await refused(revoked, 'revoked');
      const other = KINDS.find((one) => one !== kind) ?? kind;
      await refused({ ...mine, kind: other }, 'for the other lane');
      assert.equal(door.opened.length, 0);
    });
  }

  test('TLS without the ticket does not stand, nor an older version of it', async () => {
    await using door = await Door.open();
    const options = { host: '127.0.0.1', port: door.port.port, rejectUnauthorized: false };
    const attempts = [
      options,
      { ...options, maxVersion: 'TLSv1.2' as const, ciphers: 'PSK', pskCallback: () => asPsk(door.ticket('a', 'tls')) },
    ];
    for (const attempt of attempts) {
      const socket = connectTls(attempt);
      await assert.rejects(once(socket, 'secureConnect'));
    }
    assert.equal(door.opened.length, 0);
  });

  test('a listener that does not hold the ticket is not sent to, and not listened to', async () => {
    await using honest = await Door.open();
    await using other = await Door.open();
    for (const kind of KINDS) {
      const ticket = honest.ticket('a', kind);
      await refused({ ...ticket, port: other.port.port }, kind);
    }
  });

  test('strangers are few, for a short time, and keep nobody with a ticket out', async () => {
    await using door = await Door.open({ proveMs: 700, maxStrangers: 8 });
    const strangers: Socket[] = [];
    const closed: Promise<unknown>[] = [];
    const began = performance.now();
    for (let n = 0; n < 60; n += 1) {
      const socket = connect(door.port.port, '127.0.0.1');
      socket.on('error', () => undefined);
      closed.push(once(socket, 'close'));
      // Silent, half a greeting, noise, half a TLS handshake.
      const word = [Buffer.alloc(0), Buffer.from('bml1'), randomBytes(4096), Buffer.of(0x16, 3, 1)][n % 4];
      if (word && word.length > 0) socket.write(word);
      socket.resume();
      strangers.push(socket);
    }
    await Promise.all(strangers.map((socket) => once(socket, 'connect').catch(() => undefined)));
    for (const kind of KINDS) await open(door.ticket('b', kind));
    while (door.opened.length < KINDS.length) await turn();
    await Promise.all(closed);
    assert.ok(performance.now() - began < 5_000);
    assert.equal(door.opened.length, KINDS.length);
  });
});

function asPsk({ id, secret }: Ticket) {
  return { psk: Buffer.from(secret), identity: Buffer.from(id).toString('hex') };
}

function closing(socket: Socket): Disposable {
  return { [Symbol.dispose]: () => void socket.destroy() };
}

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1));
}
