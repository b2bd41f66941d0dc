import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { ANSWER_BYTES, greet, prove } from './greeting.ts';
import type { Ticket } from './ticket.ts';
import { diallerOptions } from './tls.ts';

/**
 * Where every dialled lane reads into: the callback has used the bytes before the next read of any socket. With a
 * buffer of its own for each read, as 'data' events have, receiving costs 2.5 times the CPU.
 */
const READ_BUFFER = Buffer.allocUnsafeSlow(64 * 1024);
/** Seconds of silence after which the kernel asks whether the other end is still there. */
const KEEPALIVE_MS = 15_000;

export interface Dial {
  readonly host: string;
  readonly ticket: Ticket;
  /** Gets what arrives once the ticket is proven; the bytes are good until it returns. What it throws ends the lane. */
  onBytes(bytes: Uint8Array): void;
}

/** Opens a fast lane to the one who gave the ticket. Rejects when it does not stand before the signal says so. */
export async function dial(call: Dial, { signal }: { readonly signal: AbortSignal }): Promise<Socket> {
  signal.throwIfAborted();
  const { promise: proven, resolve, reject } = Promise.withResolvers<void>();
  let consume = call.onBytes;
  const options = {
    host: call.host,
    port: call.ticket.port,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEPALIVE_MS,
    onread: {
      buffer: READ_BUFFER,
      callback: (length: number, buffer: Uint8Array) => {
        try {
          consume(buffer.subarray(0, length));
        } catch (error) {
          socket.destroy(error as Error);
        }
        return true;
      },
    },
  };
  let socket: Socket;
  if (call.ticket.kind === 'tls') {
    const secured = connectTls({ ...options, ...diallerOptions(call.ticket) }, () =>
      secured.isSessionReused() ? resolve() : reject(new Error('the other end did not prove the ticket')),
    );
    socket = secured;
  } else {
    socket = connect(options);
    consume = proving(socket, call, () => {
      consume = call.onBytes;
      resolve();
    });
  }
  const abort = () => reject(signal.reason);
  socket.on('error', (error) => {
    reject(error);
    // TLS reports a record that was changed on the way, and leaves the rest to us.
    socket.destroy();
  });
  socket.once('close', () => reject(new Error('closed before the lane stood')));
  signal.addEventListener('abort', abort, { once: true });
  try {
    await proven;
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** Sends the greeting, and takes the bytes that come back until they prove the other end. */
function proving(socket: Socket, { ticket, onBytes }: Dial, done: () => void): (bytes: Uint8Array) => void {
  const { bytes: greeting, nonce } = greet(ticket);
  socket.write(greeting);
  const answered = Buffer.alloc(ANSWER_BYTES);
  let filled = 0;
  return (bytes) => {
    const taken = Math.min(bytes.length, ANSWER_BYTES - filled);
    answered.set(bytes.subarray(0, taken), filled);
    filled += taken;
    if (filled < ANSWER_BYTES) return;
    const proof = prove(ticket, nonce, answered);
    if (proof === undefined) throw new Error('the other end did not prove the ticket');
    socket.write(proof);
    done();
    if (bytes.length > taken) onBytes(bytes.subarray(taken));
  };
}
