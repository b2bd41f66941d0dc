import { performance } from 'node:perf_hooks';

/** One line a machine wrote on its serial port, without its line end and terminal control sequences. */
export interface SerialLine {
  /** When its first byte arrived here: milliseconds since the epoch. */
  readonly at: number;
  readonly text: string;
}

/** Lines kept for later look-ups; older ones are only in the log file. */
const MAX_LINES = 4000;
/** A longer line is cut here: a guest gone mad must not grow the host's memory. */
const MAX_LINE_CHARACTERS = 4096;

/** Escape sequences: SeaBIOS and iPXE paint their output with them. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: terminal control bytes are what this removes.
const CONTROL = /\x1b\[[0-9;?]*[A-Za-z]|\x1b[c()][0-9A-Za-z]?|[\x00-\x08\x0b-\x1f\x7f]/g;

interface Waiter {
  readonly pattern: RegExp;
  readonly unfinished: boolean;
  readonly settle: (line: SerialLine) => void;
}

/** A serial port as lines with times: a bounded memory of them, and waiters for lines to come. */
export class SerialConsole {
  readonly #lines: SerialLine[] = [];
  readonly #waiters = new Set<Waiter>();
  readonly #onLine: ((line: SerialLine) => void) | undefined;
  #partial = '';
  #partialAt = 0;
  #dropped = 0;

  constructor(onLine?: (line: SerialLine) => void) {
    this.#onLine = onLine;
  }

  /** The last complete lines, oldest first. */
  get lines(): readonly SerialLine[] {
    return this.#lines;
  }

  /** A position to hand to `waitFor` as `after`: everything written so far lies before it. */
  get position(): number {
    return this.#dropped + this.#lines.length;
  }

  /** Feeds what the port printed, in pieces of any size. */
  write(text: string): void {
    let rest = text;
    while (rest !== '') {
      const end = rest.indexOf('\n');
      if (this.#partial === '') this.#partialAt = performance.timeOrigin + performance.now();
      const piece = end < 0 ? rest : rest.slice(0, end);
      this.#partial = (this.#partial + piece).slice(0, MAX_LINE_CHARACTERS);
      if (end < 0) break;
      this.#complete();
      rest = rest.slice(end + 1);
    }
    if (this.#partial !== '') this.#offer(this.#unfinished(), true);
  }

  /**
   * The first remembered line at or after position `after` that matches. With `unfinished` the line being written
   * counts as well (a prompt has no line end), and may then be cut anywhere.
   */
  find(pattern: RegExp, { after = 0, unfinished = false } = {}): SerialLine | undefined {
    const start = Math.max(0, after - this.#dropped);
    for (let index = start; index < this.#lines.length; index++) {
      const line = this.#lines[index];
      if (line !== undefined && pattern.test(line.text)) return line;
    }
    const last = this.#unfinished();
    return unfinished && this.#partial !== '' && pattern.test(last.text) ? last : undefined;
  }

  /** Calls `settle` once with the next line that matches; returns a function that stops the wait. */
  expect(pattern: RegExp, unfinished: boolean, settle: (line: SerialLine) => void): () => void {
    const waiter = { pattern, unfinished, settle };
    this.#waiters.add(waiter);
    return () => this.#waiters.delete(waiter);
  }

  #unfinished(): SerialLine {
    return { at: this.#partialAt, text: clean(this.#partial) };
  }

  #complete(): void {
    const line = this.#unfinished();
    this.#partial = '';
    this.#lines.push(line);
    if (this.#lines.length > MAX_LINES) {
      this.#lines.shift();
      this.#dropped++;
    }
    this.#onLine?.(line);
    this.#offer(line, false);
  }

  #offer(line: SerialLine, unfinished: boolean): void {
    for (const waiter of [...this.#waiters]) {
      if ((unfinished && !waiter.unfinished) || !waiter.pattern.test(line.text)) continue;
      this.#waiters.delete(waiter);
      waiter.settle(line);
    }
  }
}

function clean(text: string): string {
  return text.replace(CONTROL, '');
}
