import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import { command } from '../../src/host/command.ts';
import { signalProcess } from '../../src/lab/process.ts';

/** Lines of output that are kept for those who ask later. */
const MOST_LINES = 64;
const MOST_STDERR = 4096;
/** Everything is in place but one word: the program starts when it comes, without the milliseconds of a new namespace. */
const HELD = ['sh', '-c', 'read _ && exec "$@"', 'sh'];
/** The same for programs that end: the shell stays, so that their CPU time can be read from it, and says how they ended. */
const HELD_AND_KEPT = ['sh', '-c', 'read _ && "$@"; echo "ended $?"; read _', 'sh'];

export interface ProgramOptions {
  /** Network namespace. */
  readonly namespace: string;
  /** Starts at the first `say`; with `kept` a shell outlives it and prints `ended <exit code>`. @default at once */
  readonly held?: 'held' | 'kept';
}

/** A peer's program in a namespace, known by the lines that it prints. Disposing kills it and what it has started. */
export class Program implements Disposable {
  readonly #argv: readonly string[];
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  readonly #heard = new Set<() => void>();
  #stderr = '';
  #ended: string | undefined;

  constructor(argv: readonly string[], { namespace, held }: ProgramOptions) {
    this.#argv = argv;
    const holding = held === undefined ? [] : held === 'held' ? HELD : HELD_AND_KEPT;
    // A group of its own, so that a shell and its program are killed together.
    this.#child = spawn('ip', ['netns', 'exec', namespace, ...holding, ...argv], { detached: true });
    this.#child.on('error', (error) => this.#end(error.message));
    this.#child.on('close', (code, signal) => this.#end(`ended (${signal ?? code})`));
    this.#child.stdin?.on('error', () => undefined);
    this.#child.stderr?.on('data', (data) => {
      this.#stderr = (this.#stderr + data).slice(-MOST_STDERR);
    });
    if (this.#child.stdout) createInterface({ input: this.#child.stdout }).on('line', (line) => this.#hear(line));
  }

  /** Of the process that was started, and that it was replaced by; undefined when it has ended. */
  get pid(): number | undefined {
    return this.#ended === undefined ? this.#child.pid : undefined;
  }

  /** Writes a line to its standard input. */
  say(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  /** Resolves with the first line (of those kept) that matches. Rejects when the program ends before it. */
  async line(pattern: RegExp, { signal }: { signal: AbortSignal }): Promise<string> {
    for (;;) {
      signal.throwIfAborted();
      const line = this.#lines.find((each) => pattern.test(each));
      if (line !== undefined) return line;
      if (this.#ended !== undefined) throw new Error(`${this.#argv[0]} ${this.#ended} ${this.#stderr.trim()}`.trim());
      await this.#news(signal);
    }
  }

  kill(): void {
    if (this.pid !== undefined) signalProcess(-this.pid, 'SIGKILL');
  }

  [Symbol.dispose](): void {
    this.kill();
  }

  #hear(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > MOST_LINES) this.#lines.shift();
    for (const wake of this.#heard) wake();
  }

  #end(how: string): void {
    this.#ended ??= how;
    for (const wake of this.#heard) wake();
  }

  async #news(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    this.#heard.add(wake);
    signal.addEventListener('abort', wake, { once: true });
    await promise;
    this.#heard.delete(wake);
    signal.removeEventListener('abort', wake);
  }
}

/** `package` unless the probe runs: what a contender says about a Debian package that it needs. */
export async function missingUnless(debianPackage: string, probe: readonly string[]): Promise<string | undefined> {
  try {
    await command(probe);
    return undefined;
  } catch {
    return debianPackage;
  }
}

/** Hexadecimal. */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  return hash.digest('hex');
}
