import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { decodeTftp, encodeTftp, type TftpPacket } from '../../src/boot/tftp-packet.ts';
import { type TftpEvent, TftpServer } from '../../src/boot/tftp-server.ts';
import { silentLog } from '../../src/observe/log.ts';

const run = promisify(execFile);
const blob = createHash('shake256', { outputLength: 300_000 }).update('blob').digest();
const published = new Map([
  ['undionly.kpxe', blob],
  ['whole.bin', blob.subarray(0, 1024)],
]);
const address = '127.0.0.1';
const port = 20_000 + (process.pid % 20_000);

/** A client of our own: asks, acknowledges each window, returns what it got. */
class Client implements AsyncDisposable {
  readonly #socket = createSocket('udp4');

  async request(file: string, options: Record<string, string> = {}): Promise<TftpPacket> {
    const packet = { kind: 'read', file, mode: 'octet', options: new Map(Object.entries(options)) } as const;
    this.#socket.send(encodeTftp(packet), port, address);
    return (await this.next()).packet;
  }

  async next() {
    const [bytes, from] = (await once(this.#socket, 'message', { signal: AbortSignal.timeout(5000) })) as [
      Buffer,
      { port: number },
    ];
    return { packet: decodeTftp(bytes), port: from.port };
  }

  async fetch(file: string, options: Record<string, string>): Promise<{ bytes: Buffer; datagrams: number }> {
    const size = Number(options['blksize'] ?? 512);
    const windowSize = Number(options['windowsize'] ?? 1);
    const parts: Uint8Array[] = [];
    let datagrams = 0;
    const done = new Promise<void>((resolve, reject) => {
      this.#socket.on('message', (bytes, from) => {
        datagrams += 1;
        const packet = decodeTftp(bytes);
        const ack = (block: number) => this.#socket.send(encodeTftp({ kind: 'ack', block }), from.port, address);
        if (packet.kind === 'oack') ack(0);
        else if (packet.kind !== 'data') reject(new Error(JSON.stringify(packet)));
        else if (packet.block === parts.length + 1) {
          parts.push(packet.bytes);
          const last = packet.bytes.length < size;
          if (last || parts.length % windowSize === 0) ack(packet.block);
          if (last) resolve();
        }
      });
    });
    const map = new Map(Object.entries(options));
    this.#socket.send(encodeTftp({ kind: 'read', file, mode: 'octet', options: map }), port, address);
    await done;
    this.#socket.removeAllListeners('message');
    return { bytes: Buffer.concat(parts), datagrams };
  }

  send(bytes: Uint8Array): void {
    this.#socket.send(bytes, port, address);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()));
  }
}

describe('the TFTP server', () => {
  const events: TftpEvent[] = [];
  let server: TftpServer;
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bm-tftp-'));
    const deps = {
      log: silentLog,
      files: (name: string) => published.get(name),
      onTransfer: (e: TftpEvent) => events.push(e),
    };
    server = await TftpServer.open(deps, { address, port });
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  it('serves curl and busybox, with their options', async () => {
    for (const extra of [[], ['--tftp-blksize', '1400'], ['--tftp-no-options']]) {
      const { stdout } = await run('curl', ['-s', ...extra, `tftp://${address}:${port}/undionly.kpxe`], {
        encoding: 'buffer',
        maxBuffer: 1e6,
      });
      assert.ok(stdout.equals(blob), `curl ${extra.join(' ')}`);
    }
    const local = join(directory, 'got');
    for (const size of ['512', '1432']) {
      await run('busybox', ['tftp', '-g', '-b', size, '-r', 'whole.bin', '-l', local, address, String(port)]);
      assert.ok((await readFile(local)).equals(blob.subarray(0, 1024)));
    }
    assert.equal(events.filter(({ result }) => result === 'done').length, 5);
  });

  it('honours blksize, windowsize and tsize, answering from a port of its own', async () => {
    await using client = new Client();
    const { bytes, datagrams } = await client.fetch('undionly.kpxe', { blksize: '1468', windowsize: '8', tsize: '0' });
    assert.ok(bytes.equals(blob));
    assert.equal(datagrams, Math.ceil(blob.length / 1468) + 1);
    await using other = new Client();
    const oack = await other.request('/whole.bin', { tsize: '0', blksize: '1024' });
    assert.deepEqual(oack, {
      kind: 'oack',
      options: new Map([
        ['blksize', '1024'],
        ['tsize', '1024'],
      ]),
    });
  });

  it('serves published names only', async () => {
    const outside = [
      '../undionly.kpxe',
      '/etc/passwd',
      '..\\x',
      './undionly.kpxe',
      '//undionly.kpxe',
      '__proto__',
      'x'.repeat(400),
    ];
    for (const name of outside) {
      await using client = new Client();
      const answer = await client.request(name);
      assert.ok(answer.kind === 'error' && answer.code === 1, name);
    }
    await using client = new Client();
    client.send(encodeTftp({ kind: 'write', file: 'x', mode: 'octet', options: new Map() }));
    const { packet } = await client.next();
    assert.ok(packet.kind === 'error' && packet.code === 2);
    client.send(encodeTftp({ kind: 'read', file: 'whole.bin', mode: 'netascii', options: new Map() }));
    const text = (await client.next()).packet;
    assert.ok(text.kind === 'error' && text.code === 4);
  });

  it('tells a stranger on a transfer’s port off, and goes on', async () => {
    await using client = new Client();
    client.send(encodeTftp({ kind: 'read', file: 'whole.bin', mode: 'octet', options: new Map() }));
    const { packet, port: transfer } = await client.next();
    assert.ok(packet.kind === 'data' && packet.block === 1);
    const stranger = createSocket('udp4');
    stranger.send(encodeTftp({ kind: 'ack', block: 1 }), transfer, address);
    const [bytes] = (await once(stranger, 'message')) as [Buffer];
    assert.deepEqual(decodeTftp(bytes), { kind: 'error', code: 5, message: 'unknown transfer' });
    stranger.close();
  });

  it('has room for real clients after a flood of forged requests', async () => {
    const flood = await Promise.all(Array.from({ length: 100 }, async () => new Client()));
    for (const client of flood) {
      client.send(encodeTftp({ kind: 'read', file: 'undionly.kpxe', mode: 'octet', options: new Map() }));
    }
    await using client = new Client();
    assert.ok((await client.fetch('undionly.kpxe', { blksize: '1400' })).bytes.equals(blob));
    assert.ok(server.sessions <= 8, 'all came from one address');
    for (const each of flood) await each[Symbol.asyncDispose]();
  });
});
