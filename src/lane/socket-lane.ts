import type { Socket } from 'node:net';
import { FRAME_HEADER_BYTES, type Frame, FrameReader, writeHeader } from './frame.ts';
import type { FastKind, FrameSink, Lane } from './lane.ts';

/** Chunk bytes over a proven socket, TLS or plain TCP, one way; messages of who gets them come the other way. */
export class SocketLane implements Lane {
  readonly kind: FastKind;
  readonly #socket: Socket;
  #corked = false;

  /** @param onBytes gets what comes back, unless the socket reads into a buffer of its own */
  constructor(
    kind: FastKind,
    socket: Socket,
    { onBytes, onClose }: { onBytes(bytes: Uint8Array): void; onClose(): void },
  ) {
    this.kind = kind;
    this.#socket = socket;
    socket.on('end', () => socket.destroy());
    socket.on('error', () => undefined);
    socket.once('close', onClose);
    socket.on('data', onBytes);
    socket.resume();
  }

  /** Resolves when the frame is with the kernel, so that its buffer is free again. Rejects when the lane is gone. */
  send({ request, flags, bytes }: Frame): Promise<void> {
    const socket = this.#socket;
    const header = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
    writeHeader(header, request, flags, bytes.length);
    if (!this.#corked) {
      this.#corked = true;
      socket.cork();
      setImmediate(() => {
        this.#corked = false;
        socket.uncork();
      });
    }
    return new Promise((resolve, reject) => {
      socket.write(header);
      socket.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }

  close(reason?: Error): void {
    this.#socket.destroy(reason);
  }
}

/** What to do with the bytes of a lane that we receive by. Throws `MalformedFrame`, and is of no use afterwards. */
export function framesInto(sink: FrameSink): (bytes: Uint8Array) => void {
  const reader = new FrameReader(sink);
  return (bytes) => {
    reader.push(bytes);
    sink.onProgress(bytes.length);
  };
}
