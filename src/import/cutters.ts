import { setImmediate as turn } from 'node:timers/promises';
import { Chunker, type ChunkSizes } from '../content/chunker.ts';
import { Cut, type CutTask, cutRegion, type Packed, type PackTask, packChunks } from './region.ts';

/** A place in an open file. */
export interface FilePart {
  readonly descriptor: number;
  readonly position: number;
}

/** Who cuts and compresses. */
export interface Cutters extends AsyncDisposable {
  /** `file`: where the rest of the region's bytes is; without it they are all there. */
  cut(task: CutTask, file?: FilePart): Promise<Cut>;
  pack(task: PackTask): Promise<Packed>;
}

/** Most that is cut, and chunks that are compressed, before this thread's other work has its turn: about a millisecond. */
const TURN_BYTES = 512 * 1024;
const TURN_CHUNKS = 8;

/** Cuts on the calling thread, in turns with its other work. For little: workers take longer to start than that takes. */
export class OwnThread implements Cutters {
  readonly #chunker: Chunker;

  constructor(sizes: ChunkSizes) {
    this.#chunker = new Chunker(sizes);
  }

  async cut(task: CutTask): Promise<Cut> {
    let cut = new Cut({ start: task.start, end: task.start, filled: task.filled });
    for (let end = task.start + TURN_BYTES; ; end += TURN_BYTES) {
      const part = cutRegion({ ...task, start: cut.end, end: Math.min(end, task.end) }, this.#chunker);
      cut = part.after(cut, 0);
      if (end >= task.end) return cut;
      await turn();
    }
  }

  async pack({ memory, chunks, frames }: PackTask): Promise<Packed> {
    const packed = new Uint32Array((chunks.length / 2) * 3);
    let at = frames;
    for (let i = 0; i < chunks.length / 2; i += TURN_CHUNKS) {
      const part = packChunks({ memory, chunks: chunks.subarray(2 * i, 2 * (i + TURN_CHUNKS)), frames: at });
      packed.set(part, 3 * i);
      at = Math.max(at, ...part.filter((_, word) => word % 3 === 1));
      await turn();
    }
    return packed;
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
