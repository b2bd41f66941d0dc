import { readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { Chunker, type ChunkSizes } from '../content/chunker.ts';
import type { FilePart } from './cutters.ts';
import { type CutTask, cutRegion, type PackTask, packChunks } from './region.ts';

/** What a worker is asked, one thing at a time. */
export type Question = { readonly cut: CutTask; readonly file: FilePart | undefined } | { readonly pack: PackTask };

/** The fields of a `Cut`, a `Packed`, or why there is none. */
export interface Answer {
  readonly cut?: { start: number; end: number; filled: number; table: Uint32Array; digests: Uint8Array };
  readonly packed?: Uint32Array;
  readonly error?: Error;
  /** Of the error: what lies beside an error's message does not cross threads. */
  readonly code?: string;
}

const chunker = new Chunker(workerData as ChunkSizes);
parentPort?.on('message', (question: Question) => parentPort?.postMessage(answer(question)));

function answer(question: Question): Answer {
  try {
    if ('pack' in question) return { packed: packChunks(question.pack) };
    const { cut: task, file } = question;
    const { start, end, filled, table, digests } = cutRegion(task, chunker, file && reader(file, task.filled));
    return { cut: { start, end, filled, table, digests } };
  } catch (error) {
    const { code } = error as { code?: string };
    return { error: error instanceof Error ? error : new Error(String(error)), ...(code && { code }) };
  }
}

/** Reads what follows the `filled` bytes that are there. */
function reader({ descriptor, position }: FilePart, filled: number): (into: Uint8Array) => number {
  let at = position + filled;
  return (into) => {
    const got = readSync(descriptor, into, 0, into.length, at);
    at += got;
    return got;
  };
}
