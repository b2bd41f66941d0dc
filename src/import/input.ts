import { type FileHandle, open } from 'node:fs/promises';

/** A file's bytes, or bytes as they come. */
export interface Input extends AsyncDisposable {
  /** Bytes in all, when known. */
  readonly size: number | undefined;
  /** Where the bytes can be read by others too. */
  readonly descriptor: number | undefined;
  /** Fills `into` with the bytes that follow those of the call before; fewer mean that the input has ended. */
  fill(into: Uint8Array): Promise<number>;
}

export class FileInput implements Input {
  readonly size: number;
  readonly #file: FileHandle;
  #position = 0;

  private constructor(file: FileHandle, size: number) {
    this.#file = file;
    this.size = size;
  }

  static async open(path: string): Promise<FileInput> {
    const file = await open(path, 'r');
    return new FileInput(file, (await file.stat()).size);
  }

  get descriptor(): number {
    return this.#file.fd;
  }

  async fill(into: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < into.length) {
      const { bytesRead } = await this.#file.read(into, filled, into.length - filled, this.#position);
      if (bytesRead === 0) break;
      filled += bytesRead;
      this.#position += bytesRead;
    }
    return filled;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}

export class StreamInput implements Input {
  readonly size = undefined;
  readonly descriptor = undefined;
  readonly #pieces: AsyncIterator<Uint8Array>;
  #piece: Uint8Array = new Uint8Array();

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#pieces = source[Symbol.asyncIterator]();
  }

  async fill(into: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < into.length) {
      if (this.#piece.length === 0) {
        const next = await this.#pieces.next();
        if (next.done) break;
        this.#piece = next.value;
      }
      const part = this.#piece.subarray(0, into.length - filled);
      into.set(part, filled);
      this.#piece = this.#piece.subarray(part.length);
      filled += part.length;
    }
    return filled;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pieces.return?.();
  }
}
