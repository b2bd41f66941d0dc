import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Word } from './word.ts';

export interface WorkerOptions {
  /** What it reads on standard input. @default nothing */
  readonly input?: Uint8Array;
  /** Leave its standard input open after that, so that it waits for more. @default false */
  readonly keepOpen?: boolean;
  /** Kills it. */
  readonly signal: AbortSignal;
}

/** A process that works on a store and tells what it has done. Killed when it goes out of scope. */
export class Worker implements Disposable {
  readonly #child: ChildProcess & { readonly stdin: Writable; readonly stdout: Readable };
  /** The signal that ended it, or its exit code. */
  readonly ended: Promise<NodeJS.Signals | number | null>;

  /** Runs `program`, a file beside this one, on the store in `directory`. */
  constructor(
    program: string,
    directory: string,
    args: readonly string[],
    { input, keepOpen = false, signal }: WorkerOptions,
  ) {
    const path = fileURLToPath(new URL(program, import.meta.url));
    this.#child = spawn(process.execPath, [path, directory, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
      // Reading their modules afresh would be half of what they live for.
      env: { ...process.env, NODE_COMPILE_CACHE: `${directory}.modules` },
      signal,
      killSignal: 'SIGKILL',
    });
    const { promise, resolve, reject } = Promise.withResolvers<NodeJS.Signals | number | null>();
    this.ended = promise;
    this.ended.catch(() => {}); // Seen by whoever waits for the end.
    this.#child.on('error', reject);
    this.#child.on('close', (code, by) => resolve(by ?? code));
    // A killed process does not read what is left.
    this.#child.stdin.on('error', () => {});
    if (input) this.#child.stdin.write(input);
    if (!keepOpen) this.#child.stdin.end();
  }

  /** Everything it says until it ends. */
  async *words(): AsyncGenerator<Word, void, undefined> {
    for await (const line of createInterface(this.#child.stdout)) yield JSON.parse(line);
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  [Symbol.dispose](): void {
    this.kill();
  }
}
