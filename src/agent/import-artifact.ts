import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Manifest } from '../content/manifest.ts';
import { importFile } from '../import/import-file.ts';
import type { ArtifactRef } from '../release/release.ts';
import { PIECE_BYTES } from '../release/ticket.ts';
import type { PackStore } from '../store/pack-store.ts';

interface ImportOptions {
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: { readonly bytes: number; readonly total: number }) => void;
}

/** A file in the store, and what a release says of it. */
export interface ImportedArtifact {
  readonly manifest: Manifest;
  readonly ref: ArtifactRef;
}

/** Reads the file once: cut, hashed as a whole and hashed by pieces on the way into the store. */
export async function importArtifact(
  path: string,
  store: PackStore,
  options: ImportOptions,
): Promise<ImportedArtifact> {
  const total = (await stat(path)).size;
  const file = createReadStream(path, { highWaterMark: 1024 * 1024, signal: options.signal });
  const digests = new Digests();
  const manifest = await importFile(digests.tap(file), store, {
    signal: options.signal,
    onProgress: ({ bytes }) => options.onProgress?.({ bytes, total }),
  });
  const { sha256, pieces } = digests.finish();
  const name = basename(path).replace(/[^A-Za-z0-9._+~-]/g, '_');
  return { manifest, ref: { name, cid: manifest.cid.toString(), size: manifest.size, sha256, pieces } };
}

/** sha256 of all bytes, and of the pieces text: one lower-case sha256 and a newline per PIECE_BYTES. */
class Digests {
  readonly #whole = createHash('sha256');
  readonly #list = createHash('sha256');
  #piece: Hash = createHash('sha256');
  #filled = 0;

  async *tap(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const bytes of source) {
      this.#whole.update(bytes);
      for (let start = 0; start < bytes.length; ) {
        const part = bytes.subarray(start, start + PIECE_BYTES - this.#filled);
        this.#piece.update(part);
        this.#filled += part.length;
        start += part.length;
        if (this.#filled === PIECE_BYTES) this.#endPiece();
      }
      yield bytes;
    }
  }

  finish(): { sha256: string; pieces: string } {
    if (this.#filled > 0) this.#endPiece();
    return { sha256: this.#whole.digest('hex'), pieces: this.#list.digest('hex') };
  }

  #endPiece(): void {
    this.#list.update(`${this.#piece.digest('hex')}\n`);
    this.#piece = createHash('sha256');
    this.#filled = 0;
  }
}
