import type { Socket } from 'node:net';
import type { Stream, StreamMessageEvent } from '@libp2p/interface';
import { decodeMessage, encodeMessage, MalformedMessage, MESSAGE_LIMITS, type Message } from './message.ts';

export const EXCHANGE_PROTOCOL = '/bootmesh/exchange/1.0.0';

/** Encoded messages waiting for a peer that does not read, bytes; past it the peer is given up. */
const MAX_UNSENT_BYTES = 4 * 1024 * 1024;
/** A length prefix of more bytes would exceed any message (3 × 7 bits). */
const MAX_PREFIX_BYTES = 3;

export interface ControlEvents {
  onMessage(message: Message): void;
  /** The stream is gone; `error` is a MalformedMessage when the peer sent what is no message. */
  onClose(error?: Error): void;
}

/** News are told to many peers at a time: what was encoded for one, prefix and all, is sent to the others as it is. */
const encodings = new WeakMap<Message, Uint8Array>();

/** By what messages leave. */
interface Route {
  readonly full: boolean;
  send(bytes: Uint8Array): void;
}

/**
 * The exchange's messages over one libp2p stream, and over the pair's fast lane once there is one, where a message
 * passes through far less code. They are handled synchronously, as they arrive, so that nothing piles up between the
 * muxer and us: libp2p's iterators buffer without a bound, and cost several turns a message.
 */
export class ControlStream {
  readonly #stream: Stream;
  readonly #byLane: MessageSplitter;
  #route: Route;
  #unsent: Uint8Array[] = [];
  #unsentBytes = 0;
  #flushing = false;
  #closed = false;
  #carried = 0;
  #heardAt = 0;
  #error: Error | undefined;

  constructor(stream: Stream, events: ControlEvents) {
    this.#stream = stream;
    this.#route = {
      get full() {
        return stream.writableNeedsDrain;
      },
      send: (bytes) => void stream.send(bytes),
    };
    const onMessage = (bytes: Uint8Array) => {
      if (!this.#closed) events.onMessage(decodeMessage(bytes));
    };
    this.#byLane = new MessageSplitter(onMessage);
    const splitter = new MessageSplitter(onMessage);
    stream.addEventListener('message', ({ data }: StreamMessageEvent) => {
      if (this.#closed) return;
      this.#carried += data.byteLength;
      this.#heardAt = performance.now();
      try {
        for (const part of data instanceof Uint8Array ? [data] : data) splitter.push(part);
      } catch (error) {
        this.#error = error as Error;
        this.close(this.#error);
      }
    });
    stream.addEventListener('drain', () => this.#flush());
    stream.addEventListener('remoteCloseWrite', () => this.close(), { once: true });
    stream.addEventListener(
      'close',
      () => {
        this.#closed = true;
        events.onClose(this.#error);
      },
      { once: true },
    );
  }

  /** Bytes of messages, both ways. */
  get carried(): number {
    return this.#carried;
  }

  /** When the last message came, by `performance.now()`. */
  get heardAt(): number {
    return this.#heardAt;
  }

  send(message: Message): void {
    if (this.#closed) return;
    let bytes = encodings.get(message);
    if (bytes === undefined) {
      bytes = prefixed(encodeMessage(message));
      encodings.set(message, bytes);
    }
    this.#unsent.push(bytes);
    this.#unsentBytes += bytes.length;
    if (this.#unsentBytes > MAX_UNSENT_BYTES) {
      this.close(new Error('the peer does not read its messages'));
      return;
    }
    if (this.#flushing) return;
    this.#flushing = true;
    // What is said in one go leaves in one piece: each costs an encrypted message and a write.
    queueMicrotask(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  /** Bytes of messages that came by the fast lane. @throws MalformedMessage */
  heardByLane(bytes: Uint8Array): void {
    if (this.#closed) return;
    this.#carried += bytes.length;
    this.#heardAt = performance.now();
    this.#byLane.push(bytes);
  }

  /** Messages leave by the fast lane from now on; the last one by the stream says so. */
  moveTo(socket: Socket): void {
    this.send({ kind: 'lane-moved' });
    this.#sendUnsent();
    this.#route = {
      get full() {
        return socket.writableNeedDrain;
      },
      send: (bytes) => void socket.write(bytes),
    };
    socket.on('drain', () => this.#flush());
  }

  close(reason: Error = new Error('control stream closed')): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unsent = [];
    this.#stream.abort(reason);
  }

  #flush(): void {
    if (!this.#route.full) this.#sendUnsent();
  }

  #sendUnsent(): void {
    if (this.#closed || this.#unsent.length === 0) return;
    const [only, ...more] = this.#unsent;
    const bytes = only !== undefined && more.length === 0 ? only : Buffer.concat(this.#unsent);
    this.#unsent = [];
    this.#unsentBytes = 0;
    this.#carried += bytes.length;
    try {
      this.#route.send(bytes);
    } catch (error) {
      this.close(error as Error);
    }
  }
}

/** After its length as an unsigned varint (multiformats), as protobuf and libp2p prefix their messages. */
function prefixed(message: Uint8Array): Uint8Array {
  const prefix: number[] = [];
  let rest = message.length;
  for (; rest >= 0x80; rest >>>= 7) prefix.push((rest & 0x7f) | 0x80);
  prefix.push(rest);
  const bytes = Buffer.allocUnsafe(prefix.length + message.length);
  bytes.set(prefix);
  bytes.set(message, prefix.length);
  return bytes;
}

/** Byte pieces in, whole messages out. A prefix past the limit is refused before anything is kept for it. */
class MessageSplitter {
  readonly #onMessage: (bytes: Uint8Array) => void;
  #length = 0;
  #prefixBytes = 0;
  #body: Uint8Array | undefined;
  #filled = 0;

  constructor(onMessage: (bytes: Uint8Array) => void) {
    this.#onMessage = onMessage;
  }

  push(part: Uint8Array): void {
    let offset = 0;
    while (offset < part.length) {
      if (this.#body === undefined) {
        this.#readPrefix(part[offset] ?? 0);
        offset += 1;
        continue;
      }
      const taken = Math.min(this.#body.length - this.#filled, part.length - offset);
      this.#body.set(part.subarray(offset, offset + taken), this.#filled);
      this.#filled += taken;
      offset += taken;
      if (this.#filled < this.#body.length) continue;
      const body = this.#body;
      this.#body = undefined;
      this.#onMessage(body);
    }
  }

  #readPrefix(byte: number): void {
    this.#length |= (byte & 0x7f) << (7 * this.#prefixBytes);
    this.#prefixBytes += 1;
    if (byte >= 0x80) {
      if (this.#prefixBytes === MAX_PREFIX_BYTES) throw new MalformedMessage('length prefix is too long');
      return;
    }
    if (this.#length === 0 || this.#length > MESSAGE_LIMITS.bytes) {
      throw new MalformedMessage(`${this.#length} bytes announced, at most ${MESSAGE_LIMITS.bytes} allowed`);
    }
    this.#body = new Uint8Array(this.#length);
    this.#filled = 0;
    this.#length = 0;
    this.#prefixBytes = 0;
  }
}
