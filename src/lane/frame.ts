import { MAX_CHUNK_BYTES } from '../content/chunk.ts';

/**
 * Request id (32 bits), flags (8), reserved zero (24), length (32); big endian, then `length` bytes. Flag bit 0 is kept
 * for bytes that are zstd-compressed; a flag is sent only to a peer whose hello accepts it.
 */
export const FRAME_HEADER_BYTES = 12;

export interface Frame {
  readonly request: number;
  readonly flags: number;
  readonly bytes: Uint8Array;
}

/** A lane carried something that is no frame, or one that nobody asked for. */
export class MalformedFrame extends Error {
  readonly code = 'MALFORMED_FRAME';

  constructor(problem: string) {
    super(`malformed lane frame: ${problem}`);
    this.name = 'MalformedFrame';
  }
}

/** Frames in one buffer: what leaves in pieces costs an encrypted message, a write and a window update for each. */
export function encodeFrames(frames: readonly Frame[]): Uint8Array {
  const buffer = Buffer.allocUnsafeSlow(frames.reduce((sum, { bytes }) => sum + FRAME_HEADER_BYTES + bytes.length, 0));
  let at = 0;
  for (const { request, flags, bytes } of frames) {
    writeHeader(buffer, request, flags, bytes.length, at);
    buffer.set(bytes, at + FRAME_HEADER_BYTES);
    at += FRAME_HEADER_BYTES + bytes.length;
  }
  return buffer;
}

/** Writes one frame's header at `at`. */
export function writeHeader(buffer: Buffer, request: number, flags: number, length: number, at = 0): void {
  buffer.writeUInt32BE(request, at);
  buffer.writeUInt32BE(flags * 0x1000000, at + 4);
  buffer.writeUInt32BE(length, at + 8);
}

export interface FrameReaderOptions {
  /** Most bytes that frame `request` may carry; 0 refuses it. Asked before its buffer is allocated. */
  allow(request: number, flags: number): number;
  /** A buffer for the bytes of a frame that `allow` let pass. */
  allocate(length: number): Uint8Array;
  onFrame(frame: Frame): void;
}

/**
 * Cuts a lane's byte stream into frames. A frame's bytes are copied once, into a view of exactly its length, which is
 * what the hash and the store want. Throws `MalformedFrame`; the reader is of no use afterwards.
 */
export class FrameReader {
  readonly #options: FrameReaderOptions;
  readonly #header = new Uint8Array(FRAME_HEADER_BYTES);
  readonly #view = new DataView(this.#header.buffer);
  #headerFilled = 0;
  #body: Uint8Array | undefined;
  #bodyFilled = 0;

  constructor(options: FrameReaderOptions) {
    this.#options = options;
  }

  push(part: Uint8Array): void {
    let offset = 0;
    while (offset < part.length) {
      offset += this.#body === undefined ? this.#readHeader(part, offset) : this.#readBody(this.#body, part, offset);
    }
  }

  #readHeader(part: Uint8Array, offset: number): number {
    const taken = Math.min(FRAME_HEADER_BYTES - this.#headerFilled, part.length - offset);
    this.#header.set(part.subarray(offset, offset + taken), this.#headerFilled);
    this.#headerFilled += taken;
    if (this.#headerFilled === FRAME_HEADER_BYTES) this.#open();
    return taken;
  }

  #open(): void {
    const request = this.#view.getUint32(0);
    const flags = this.#view.getUint8(4);
    const length = this.#view.getUint32(8);
    if ((this.#view.getUint32(4) & 0xffffff) !== 0) throw new MalformedFrame('reserved bits are set');
    if (length === 0 || length > Math.min(MAX_CHUNK_BYTES, this.#options.allow(request, flags))) {
      throw new MalformedFrame(`${length} bytes with flags ${flags} for request ${request} are not what was asked for`);
    }
    this.#body = this.#options.allocate(length);
    this.#bodyFilled = 0;
  }

  #readBody(body: Uint8Array, part: Uint8Array, offset: number): number {
    const taken = Math.min(body.length - this.#bodyFilled, part.length - offset);
    body.set(part.subarray(offset, offset + taken), this.#bodyFilled);
    this.#bodyFilled += taken;
    if (this.#bodyFilled < body.length) return taken;
    this.#body = undefined;
    this.#headerFilled = 0;
    this.#options.onFrame({ request: this.#view.getUint32(0), flags: this.#view.getUint8(4), bytes: body });
    return taken;
  }
}
