import { Patience, type PatienceOptions } from './patience.ts';

export interface WindowOptions extends Partial<PatienceOptions> {
  /** Bytes asked for before anything was measured. @default 256 KiB */
  readonly initial: number;
  /** Never fewer bytes than this, so that a slow peer is still measured. @default 128 KiB */
  readonly floor: number;
  /** Never more bytes than this, which bounds memory and what a dying peer takes along. @default 8 MiB */
  readonly ceiling: number;
  /** Work kept waiting at the uploader on top of the round trip, milliseconds. @default 200 */
  readonly queueMs: number;
}

export const WINDOW_DEFAULTS: WindowOptions = {
  initial: 256 * 1024,
  floor: 128 * 1024,
  ceiling: 8 * 1024 * 1024,
  queueMs: 200,
};

/** A rate sample covers this much busy time, milliseconds; shorter ones measure the sender's bursts… */
const SAMPLE_MS = 100;
/** …unless so many windows came in less: then the window is what limits the rate, and must grow at once. */
const SAMPLE_WINDOWS = 2;

/**
 * How many bytes to keep asked of one uploader: its measured rate times (its shortest delay + a short queue). The
 * uploader's link stays busy while a request is on its way, and no more than that is lost when it dies.
 * Times are milliseconds of any monotonic clock.
 */
export class Window {
  readonly #options: WindowOptions;
  readonly #patience: Patience;
  #rate = 0;
  #delay = Number.POSITIVE_INFINITY;
  /** Since when something has been outstanding, and for how long it was before, within this sample. */
  #busySince = 0;
  #busyMs = 0;
  #sampleBytes = 0;
  #outstanding = 0;

  constructor(options: Partial<WindowOptions> = {}) {
    this.#options = { ...WINDOW_DEFAULTS, ...options };
    this.#patience = new Patience(options);
  }

  /** Bytes asked for and not answered. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** Measured bytes per second; 0 before the first measurement. */
  get rate(): number {
    return this.#rate;
  }

  get target(): number {
    const { initial, floor, ceiling, queueMs } = this.#options;
    if (this.#rate === 0) return initial;
    const delay = Number.isFinite(this.#delay) ? this.#delay : 0;
    return Math.min(ceiling, Math.max(floor, (this.#rate * (delay + queueMs)) / 1000));
  }

  /** Bytes that may be asked for now. */
  get room(): number {
    return Math.max(0, this.target - this.#outstanding);
  }

  /** So much is free that it is worth asking: refilled by halves, one message and one look at the set for several chunks. */
  get open(): boolean {
    const { room } = this;
    return room > 0 && (this.#outstanding === 0 || room >= this.target / 2);
  }

  asked(bytes: number, now: number): void {
    // An idle uploader's rate says nothing about its link: only time with something outstanding counts.
    if (this.#outstanding === 0) this.#busySince = now;
    this.#outstanding += bytes;
    this.#patience.owes(now);
  }

  /** Some bytes came, perhaps not a whole chunk. */
  progress(now: number): void {
    this.#patience.progress(now);
  }

  /** The request was answered with its bytes, `delay` after it was sent. */
  delivered(bytes: number, delay: number, now: number): void {
    this.#patience.answered(delay, now);
    // Delays drift upwards slowly, so that a route that became longer is believed after a while.
    this.#delay = Math.min(delay, this.#delay * 1.01);
    this.#sampleBytes += bytes;
    this.#busyMs += now - this.#busySince;
    this.#busySince = now;
    if (this.#busyMs >= SAMPLE_MS || this.#sampleBytes >= SAMPLE_WINDOWS * this.target) {
      const sample = (this.#sampleBytes * 1000) / Math.max(1, this.#busyMs);
      const mean = this.#rate === 0 ? sample : this.#rate * 0.6 + sample * 0.4;
      // What piled up while this process was busy arrives faster than any link: no sample more than doubles the window.
      this.#rate = Math.min(mean, (2 * this.target * 1000) / (this.#delay + this.#options.queueMs));
      this.#busyMs = 0;
      this.#sampleBytes = 0;
    }
    this.released(bytes);
  }

  /** The request ended without bytes: cancelled, missing, busy, or the uploader is gone. */
  released(bytes: number): void {
    this.#outstanding = Math.max(0, this.#outstanding - bytes);
    if (this.#outstanding === 0) this.#patience.settled();
  }

  /** When the uploader will be suspected to be gone unless it sends something; Infinity while it owes us nothing. */
  get suspectAt(): number {
    return this.#patience.suspectAt;
  }

  /** How long an answer takes at most as a rule, milliseconds. */
  get answerMs(): number {
    return this.#patience.answerMs;
  }

  /** Since when it owes us something and sends nothing. */
  get silentSince(): number | undefined {
    return this.#patience.silentSince;
  }

  /** The uploader said that it is overloaded: halve what is asked of it. */
  shrink(): void {
    this.#rate = Math.max(1, (this.#rate === 0 ? this.target : this.#rate) / 2);
  }
}
