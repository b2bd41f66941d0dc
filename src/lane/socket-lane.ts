import type { Socket } from 'node:net';
import { FRAME_HEADER_BYTES, type Frame, FrameReader, MalformedFrame, writeHeader } from './frame.ts';
import type { FastKind, FrameSink, Lane } from './lane.ts';

/** Frames that left and of which we do not know whether they arrived; the peer's window allows fewer. */
const MAX_REMEMBERED = 8192;

/** Chunk bytes over a proven socket, TLS or plain TCP, one way: it sends. */
export class SocketLane implements Lane {
  readonly kind: FastKind;
  readonly #socket: Socket;
  #left: number[] = [];
  #corked = false;

  /** @param onClose gets the requests whose frames left: they may or may not have arrived. Called once. */
  constructor(kind: FastKind, socket: Socket, onClose: (left: readonly number[]) => void) {
    this.kind = kind;
    this.#socket = socket;
    // The other direction carries nothing, but has to be read for its end to be seen.
    socket.on('data', () => socket.destroy(new MalformedFrame('bytes against the direction of the lane')));
    socket.on('end', () => socket.destroy());
    socket.on('error', () => undefined);
    socket.once('close', () => onClose(this.#left));
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
      socket.write(bytes, (error) => {
        if (error) return reject(error);
        this.#left.push(request);
        if (this.#left.length > MAX_REMEMBERED) this.#left = this.#left.slice(-MAX_REMEMBERED / 2);
        resolve();
      });
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
