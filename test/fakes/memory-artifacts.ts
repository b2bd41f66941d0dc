import type { CID } from 'multiformats/cid';
import { chunkCid, DAG_PB } from '../../src/content/chunk.ts';
import type { Artifact, Artifacts } from '../../src/gateway/artifacts.ts';

/** Artifacts held in memory. Names are made up from the bytes; `read` yields pieces of `pieceBytes`. */
export class MemoryArtifacts implements Artifacts {
  readonly #artifacts = new Map<string, Artifact>();
  readonly #pieceBytes: number;
  /** Reads that are under way. */
  reading = 0;

  constructor(pieceBytes = 64 * 1024) {
    this.#pieceBytes = pieceBytes;
  }

  add(bytes: Uint8Array): CID {
    const yields = (start: number, end: number) => this.#pieces(bytes, start, end);
    return this.addSource(chunkCid(bytes, DAG_PB), bytes.length, async function* ({ start, end }) {
      yield* yields(start, end);
    });
  }

  addSource(cid: CID, size: number, read: Artifact['read']): CID {
    this.#artifacts.set(cid.toString(), { size, read: (range) => this.#counted(read(range)) });
    return cid;
  }

  async open(cid: CID): Promise<Artifact | undefined> {
    return this.#artifacts.get(cid.toString());
  }

  *#pieces(bytes: Uint8Array, start: number, end: number) {
    for (let at = start; at < end; at += this.#pieceBytes)
      yield bytes.subarray(at, Math.min(end, at + this.#pieceBytes));
  }

  async *#counted(source: AsyncIterable<Uint8Array>) {
    this.reading += 1;
    try {
      yield* source;
    } finally {
      this.reading -= 1;
    }
  }
}
