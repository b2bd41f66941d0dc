import type { Log } from '../../src/observe/log.ts';

export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly sentence: string;
  readonly [field: string]: unknown;
}

/** A log that remembers, for tests of what is said. */
export class RecordedLog implements Log {
  readonly lines: LogLine[];
  readonly #fields: Readonly<Record<string, unknown>>;

  constructor(lines: LogLine[] = [], fields: Readonly<Record<string, unknown>> = {}) {
    this.lines = lines;
    this.#fields = fields;
  }

  debug = (sentence: string, fields = {}) =>
    void this.lines.push({ ...this.#fields, ...fields, level: 'debug', sentence });
  info = (sentence: string, fields = {}) =>
    void this.lines.push({ ...this.#fields, ...fields, level: 'info', sentence });
  warn = (sentence: string, fields = {}) =>
    void this.lines.push({ ...this.#fields, ...fields, level: 'warn', sentence });
  error = (sentence: string, fields = {}) =>
    void this.lines.push({ ...this.#fields, ...fields, level: 'error', sentence });
  with = (fields: Readonly<Record<string, unknown>>) => new RecordedLog(this.lines, { ...this.#fields, ...fields });
}
