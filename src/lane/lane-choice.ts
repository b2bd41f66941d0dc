/** What sockets and the muxer may swallow before a rate shows, bytes. */
const SWALLOWED = 12 * 1024 * 1024;
/** One measurement, milliseconds. */
const WINDOW_MS = 1_000;
/** Full windows in a row before the stream is tried. */
const WINDOWS_BEFORE_TRIAL = 3;
/** Above this the stream is not clearly faster on any machine, bytes per second. */
const FAST_ENOUGH = 50e6;
/** The stream has to be this many times faster. */
const CLEARLY = 1.5;
/** Pause after a trial that the fast lane has won, milliseconds; doubled each time. */
const PAUSE_MS = 60_000;
const LONGEST_PAUSE_MS = 960_000;

/**
 * Whether a fast lane is worth its name: when it has been the bottleneck for a while at a modest rate, the stream is
 * given the same work for a moment, and the faster of the two is kept. Pure: told what was sent and when.
 */
export class LaneChoice {
  #trial = false;
  #slow = false;
  #reference = 0;
  #windows = 0;
  #skipped = 0;
  #since: number | undefined;
  #bytes = 0;
  #trials = 0;
  #nextTrial = 0;

  /** Send over the fast lane? */
  get fast(): boolean {
    return !this.#trial && !this.#slow;
  }

  /** The stream is clearly faster: leave the fast lane. */
  get slow(): boolean {
    return this.#slow;
  }

  /** A frame of `bytes` left by the fast lane or the stream at `now` (milliseconds) while `waiting` others did not. */
  sent(by: 'fast' | 'stream', bytes: number, waiting: number, now: number): void {
    if ((by === 'fast') !== this.fast || this.#slow) return;
    if (waiting === 0) {
      // We had nothing more to send: the rate says nothing of the lane.
      if (this.#trial) this.#endTrial(now);
      this.#restart();
      this.#windows = 0;
      return;
    }
    if (this.#skipped < SWALLOWED) {
      this.#skipped += bytes;
      return;
    }
    this.#since ??= now;
    this.#bytes += bytes;
    const elapsed = now - this.#since;
    if (elapsed < WINDOW_MS) return;
    const rate = (this.#bytes / elapsed) * 1000;
    this.#since = now;
    this.#bytes = 0;
    this.#measured(rate, now);
  }

  #measured(rate: number, now: number): void {
    if (this.#trial) {
      this.#slow = rate > CLEARLY * this.#reference;
      this.#endTrial(now);
      this.#restart();
      return;
    }
    this.#windows = rate < FAST_ENOUGH ? this.#windows + 1 : 0;
    if (this.#windows < WINDOWS_BEFORE_TRIAL || now < this.#nextTrial) return;
    this.#reference = rate;
    this.#trial = true;
    this.#windows = 0;
    this.#restart();
  }

  #endTrial(now: number): void {
    this.#trial = false;
    this.#nextTrial = now + Math.min(PAUSE_MS * 2 ** this.#trials, LONGEST_PAUSE_MS);
    this.#trials += 1;
  }

  #restart(): void {
    this.#skipped = 0;
    this.#since = undefined;
    this.#bytes = 0;
  }
}
