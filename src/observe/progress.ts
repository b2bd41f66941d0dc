/** What a progress is shown on. */
export interface ProgressStream {
  write(text: string): unknown;
  /** A terminal, whose line can be drawn again. */
  readonly isTTY?: boolean;
  /** Width of the terminal. @default 80 */
  readonly columns?: number;
}

export interface ProgressOptions {
  /** What is being done: `import rootfs`. */
  readonly label: string;
  /** Bytes in all; may become known later. */
  readonly total?: number | undefined;
  /** Undefined shows nothing. */
  readonly stream: ProgressStream | undefined;
  /** Milliseconds of a clock that never goes back. @default performance.now */
  readonly now?: () => number;
}

/** Shows how far something has come. */
export interface Progress {
  /** `done` bytes in all so far. */
  update(done: number, total?: number): void;
  /** Ends the line. Needed once, also after a failure. */
  finish(): void;
}

/** What ends sooner is not worth a line. */
const QUIET_MS = 2_000;
const TERMINAL_MS = 100;
const PIPE_MS = 5_000;
/** The rate is that of the last seconds, so that it follows a link that changes. */
const RATE_WINDOW_MS = 5_000;
const BAR = 24;

/**
 * A line with bytes, rate and time left: on a terminal drawn again up to ten times a second, elsewhere written every
 * five seconds and at the end; nothing at all for what takes less than two seconds.
 */
export function openProgress(options: ProgressOptions): Progress {
  return options.stream === undefined ? { update: () => {}, finish: () => {} } : new Line(options, options.stream);
}

class Line implements Progress {
  readonly #label: string;
  readonly #stream: ProgressStream;
  readonly #now: () => number;
  readonly #started: number;
  /** Redraws while nothing comes, so that a standstill is seen. */
  readonly #pulse: NodeJS.Timeout;
  #samples: { readonly at: number; readonly done: number }[];
  #done = 0;
  #total: number | undefined;
  #shownAt: number | undefined;
  #finished = false;

  constructor({ label, total, now = () => performance.now() }: ProgressOptions, stream: ProgressStream) {
    this.#label = label;
    this.#total = total;
    this.#stream = stream;
    this.#now = now;
    this.#started = now();
    this.#samples = [{ at: this.#started, done: 0 }];
    this.#pulse = setInterval(() => this.#show(), 1_000).unref();
  }

  update(done: number, total = this.#total): void {
    if (this.#finished) return;
    this.#done = done;
    this.#total = total;
    this.#show();
  }

  finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    clearInterval(this.#pulse);
    const now = this.#now();
    if (this.#shownAt === undefined && now - this.#started < QUIET_MS) return;
    const whole = { rate: (this.#done / Math.max(1, now - this.#started)) * 1_000, left: '' };
    this.#write(`${this.#text(whole)} in ${clock(now - this.#started)}`, '\n');
  }

  #show(): void {
    const now = this.#now();
    this.#sample(now);
    const every = this.#stream.isTTY ? TERMINAL_MS : PIPE_MS;
    const last = this.#shownAt ?? this.#started + QUIET_MS - every;
    if (now - last < every) return;
    this.#shownAt = now;
    this.#write(this.#text(this.#pace(now)), this.#stream.isTTY ? '' : '\n');
  }

  #sample(now: number): void {
    const newest = this.#samples.at(-1);
    if (newest && now - newest.at >= TERMINAL_MS) this.#samples.push({ at: now, done: this.#done });
    const kept = this.#samples.findLastIndex(({ at }) => now - at >= RATE_WINDOW_MS);
    if (kept > 0) this.#samples = this.#samples.slice(kept);
  }

  #pace(now: number): { rate: number; left: string } {
    const [oldest = { at: this.#started, done: 0 }] = this.#samples;
    const rate = (Math.max(0, this.#done - oldest.done) / Math.max(1, now - oldest.at)) * 1_000;
    const rest = (this.#total ?? Number.NaN) - this.#done;
    return { rate, left: rate > 0 && rest >= 0 ? `, ${clock((rest / rate) * 1_000)} left` : '' };
  }

  #text({ rate, left }: { readonly rate: number; readonly left: string }): string {
    const speed = `${formatBytes(rate)}/s${left}`;
    if (!this.#total) return `${this.#label}  ${formatBytes(this.#done)}  ${speed}`;
    const share = Math.min(1, this.#done / this.#total);
    const filled = Math.floor(share * BAR);
    const bar = this.#stream.isTTY ? `[${'#'.repeat(filled)}${'-'.repeat(BAR - filled)}] ` : '';
    const percent = `${Math.floor(share * 100)}%`.padStart(4);
    return `${this.#label}  ${bar}${percent}  ${formatBytes(this.#done)} of ${formatBytes(this.#total)}  ${speed}`;
  }

  #write(text: string, end: string): void {
    // A line that wraps could not be drawn over.
    const line = this.#stream.isTTY ? `\r\x1b[K${text.slice(0, (this.#stream.columns ?? 80) - 1)}` : text;
    this.#stream.write(line + end);
  }
}

/** `999 B`, `1.5 kB`, `20.0 MB`: powers of 1000. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = Math.max(0, bytes);
  let unit = 0;
  // 999.95 would be printed as 1000.0.
  while (value >= (unit === 0 ? 999.5 : 999.95) && unit < units.length - 1) {
    value /= 1_000;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** `0:07`, `12:34`, `1:02:03`. */
function clock(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const shown = parts[0] === 0 ? parts.slice(1) : parts;
  return shown.map((part, index) => (index === 0 ? String(part) : String(part).padStart(2, '0'))).join(':');
}
