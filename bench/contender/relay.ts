import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type FileHandle, open } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';

/**
 * One link of a chain, and next to nothing else: takes a file from the disk, or from the relay at `--upstream`, and
 * gives it to the next relay while it comes. What comes over the network is hashed in pieces, as it would have to be to
 * be verified, and written to the file. Prints `ready`, begins at a line of its input, prints `complete`.
 *
 *     node relay.ts --file PATH --bytes N [--upstream HOST] [--listen HOST]
 */

const PORT = 6_900;
const BLOCK_BYTES = 256 * 1024;
const PIECE_BYTES = 64 * 1024;
/** Blocks that come in while others go out. */
const BLOCKS = 16;
/** Until an upstream relay that does not listen yet is dialled again, milliseconds. */
const AGAIN_MS = 20;

type Take = (block: Buffer) => Promise<void>;

const { values } = parseArgs({
  options: {
    file: { type: 'string', default: '' },
    bytes: { type: 'string', default: '0' },
    upstream: { type: 'string' },
    listen: { type: 'string' },
  },
});
const { file: path, upstream, listen } = values;
const total = Number(values.bytes);
const next = listen === undefined ? undefined : await listenOn(listen);
console.log('ready');
await once(createInterface({ input: process.stdin }), 'line');
const downstream = next && (await next.connected);
await using file = await open(path, upstream === undefined ? 'r' : 'w');
if (upstream === undefined) await fromFile(file, (block) => give(downstream, block));
else await fromRelay(upstream, file, (block) => give(downstream, block));
console.log('complete');
downstream?.end();

async function listenOn(host: string): Promise<{ readonly connected: Promise<Socket> }> {
  const server = createServer();
  const connected = once(server, 'connection').then(([socket]) => {
    server.close();
    return socket as Socket;
  });
  server.listen(PORT, host);
  await once(server, 'listening');
  return { connected };
}

async function give(to: Socket | undefined, block: Buffer): Promise<void> {
  if (to === undefined) return;
  // The block is used again afterwards.
  await new Promise<void>((resolve, reject) => to.write(block, (error) => (error ? reject(error) : resolve())));
}

async function fromFile(from: FileHandle, take: Take): Promise<void> {
  const blocks = [Buffer.allocUnsafeSlow(BLOCK_BYTES), Buffer.allocUnsafeSlow(BLOCK_BYTES)];
  let taken = Promise.resolve();
  for (let at = 0, turn = 0; at < total; turn += 1) {
    const { bytesRead, buffer } = await from.read(blocks[turn % 2] as Buffer, 0, BLOCK_BYTES, at);
    await taken;
    taken = take(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
  await taken;
}

/** The socket reads straight into blocks; a full one is hashed, written and passed on, and then used again. */
async function fromRelay(host: string, to: FileHandle, take: Take): Promise<void> {
  const free = Array.from({ length: BLOCKS }, () => Buffer.allocUnsafeSlow(BLOCK_BYTES));
  const done = Promise.withResolvers<void>();
  let block = free.pop() as Buffer<ArrayBuffer>;
  let [filled, came, written] = [0, 0, 0];
  const finish = async (full: Buffer<ArrayBuffer>, bytes: number, at: number) => {
    const piece = full.subarray(0, bytes);
    for (let n = 0; n < bytes; n += PIECE_BYTES)
      createHash('sha256')
        .update(piece.subarray(n, n + PIECE_BYTES))
        .digest();
    await Promise.all([to.write(piece, 0, bytes, at), take(piece)]);
    written += bytes;
    free.push(full);
    socket.resume();
    if (written === total) done.resolve();
  };
  const socket = await dial(host, {
    buffer: () => block.subarray(filled),
    callback: (bytes) => {
      filled += bytes;
      came += bytes;
      if (filled < BLOCK_BYTES && came < total) return true;
      finish(block, filled, came - filled).catch(done.reject);
      block = free.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES);
      filled = 0;
      if (free.length === 0) socket.pause();
      return true;
    },
  });
  socket.once('error', done.reject);
  await done.promise;
  socket.destroy();
}

async function dial(host: string, onread: OnRead): Promise<Socket> {
  for (;;) {
    const socket = connect({ host, port: PORT, onread });
    try {
      await once(socket, 'connect');
      return socket;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ECONNREFUSED') throw error;
      await delay(AGAIN_MS);
    }
  }
}

interface OnRead {
  buffer(): Uint8Array;
  callback(bytes: number): boolean;
}
