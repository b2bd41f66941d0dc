import { setFlagsFromString } from 'node:v8';

/**
 * Settles V8's collector for a process that moves chunks: a young generation that stays small. A chunk's buffers lie
 * outside the heap and die young; frequent cheap collections free them. With V8's own growing young generation they
 * pile up until their sheer size makes it mark the whole heap, ten times a second: that took 2-5 CPU seconds per GB,
 * as much as everything else together, and 100 MB of memory.
 *
 * For the whole process, so its entry point calls it, **before it imports the program** (`await import(…)`): once
 * grown, the young generation stays large.
 */
export function tuneHeap(): void {
  setFlagsFromString('--max-semi-space-size=4');
  setFlagsFromString('--semi-space-growth-factor=1');
}
