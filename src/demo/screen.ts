import type { Writable } from 'node:stream';
import { styleText } from 'node:util';
import { openProgress, type Progress } from '../observe/progress.ts';

interface Terminal extends Writable {
  readonly isTTY?: boolean;
}

/** The demo's story, one line per step; colours on a terminal only. */
export class Screen {
  readonly #out: Terminal;
  readonly #showConsole: boolean;

  constructor(
    out: Terminal,
    options: { /** Show the machine's console. @default false */ readonly console?: boolean } = {},
  ) {
    this.#out = out;
    this.#showConsole = options.console ?? false;
  }

  title(text: string): void {
    this.#line(`\n${this.#style('bold', 'bootmesh')}  ${text}\n`);
  }

  step(name: string, text: string): void {
    this.#line(`  ${this.#style('cyan', name.padEnd(10))}${text}`);
  }

  moment(when: string, stage: string, who: string, detail: string): void {
    this.#line(
      `  ${this.#style('dim', when.padStart(10))}  ${stage.padEnd(10)}${this.#style('green', who.padEnd(8))}${detail}`,
    );
  }

  console(text: string): void {
    if (this.#showConsole) this.#line(this.#style('dim', `    | ${text}`));
  }

  verdict(ok: boolean, text: string): void {
    this.#line(`\n  ${ok ? this.#style('green', 'ok') : this.#style('red', 'failed')}  ${text}\n`);
  }

  progress(name: string, total: number): Progress {
    return openProgress({ label: `  ${name.padEnd(10)}`, total, stream: this.#out });
  }

  #style(format: 'bold' | 'cyan' | 'dim' | 'green' | 'red', text: string): string {
    return this.#out.isTTY ? styleText(format, text, { validateStream: false }) : text;
  }

  #line(text: string): void {
    this.#out.write(`${text}\n`);
  }
}
