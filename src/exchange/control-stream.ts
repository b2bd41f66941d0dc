import type { Stream } from '@libp2p/interface';
import { messageStreamToDuplex } from '@libp2p/utils';
import { pipe } from 'it-pipe';
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

/**
 * The exchange's messages over one libp2p stream. The only place that knows pipes: libp2p's streams are event targets,
 * `messageStreamToDuplex` makes them what `it-pipe` connects. Messages are handled synchronously, as they arrive, so
 * that nothing piles up between the muxer and us.
 */
export class ControlStream {
  readonly #stream: Stream;
  #unsent: Uint8Array[] = [];
  #unsentBytes = 0;
  #wake: (() => void) | undefined;
  #closed = false;
  #carried = 0;

  constructor(stream: Stream, events: ControlEvents) {
    this.#stream = stream;
    const duplex = messageStreamToDuplex(stream);
    const inbound = pipe(duplex.source, split, async (messages: AsyncIterable<Uint8Array>) => {
      for await (const bytes of messages) {
        if (this.#closed) return;
        this.#carried += bytes.length + prefix(bytes.length).length;
        events.onMessage(decodeMessage(bytes));
      }
    });
    const outbound = pipe(() => this.#outgoing(), duplex.sink);
    Promise.all([inbound.then(() => this.close()), outbound]).then(
      () => events.onClose(),
      (error: Error) => {
        this.close(error);
        events.onClose(error);
      },
    );
  }

  /** Bytes of messages, both ways. */
  get carried(): number {
    return this.#carried;
  }

  send(message: Message): void {
    if (this.#closed) return;
    const bytes = encodeMessage(message);
    const length = prefix(bytes.length);
    this.#unsent.push(length, bytes);
    this.#carried += length.length + bytes.length;
    this.#unsentBytes += bytes.length + MAX_PREFIX_BYTES;
    if (this.#unsentBytes > MAX_UNSENT_BYTES) this.close(new Error('the peer does not read its messages'));
    else this.#wake?.();
  }

  close(reason: Error = new Error('control stream closed')): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unsent = [];
    this.#wake?.();
    this.#stream.abort(reason);
  }

  async *#outgoing(): AsyncGenerator<Uint8Array> {
    while (!this.#closed) {
      if (this.#unsent.length === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = undefined;
        continue;
      }
      const bytes = Buffer.concat(this.#unsent);
      this.#unsent = [];
      this.#unsentBytes = 0;
      yield bytes;
    }
  }
}

/** Unsigned varint (multiformats), as protobuf and libp2p prefix their messages. */
function prefix(length: number): Uint8Array {
  const bytes: number[] = [];
  let rest = length;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return Uint8Array.of(...bytes, rest);
}

/** Byte pieces in, whole messages out. A prefix past the limit is refused before anything is kept for it. */
export async function* split(
  source: AsyncIterable<Uint8Array | Iterable<Uint8Array>>,
): AsyncGenerator<Uint8Array, void, undefined> {
  const splitter = new MessageSplitter();
  for await (const data of source) {
    for (const part of data instanceof Uint8Array ? [data] : data) yield* splitter.push(part);
  }
}

class MessageSplitter {
  #length = 0;
  #prefixBytes = 0;
  #body: Uint8Array | undefined;
  #filled = 0;

  *push(part: Uint8Array): Generator<Uint8Array> {
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
      yield this.#body;
      this.#body = undefined;
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
