import { writeSync } from 'node:fs';

/** What a process that is to be killed tells the one that kills it. */
export type Word =
  /** The segment `file` is on disk up to `bytes`. */
  | { readonly said: 'synced'; readonly file: string; readonly bytes: number }
  /** Chunks of `bytes` in all are in the store: puts that have resolved. */
  | { readonly said: 'stored'; readonly bytes: number }
  /** The artifact `root` is in the store, whole and synced. */
  | { readonly said: 'done'; readonly root: string };

/** Says it on standard output, a line each, without buffering: what was said before the kill is heard after it. */
export function say(word: Word): void {
  writeSync(1, `${JSON.stringify(word)}\n`);
}
