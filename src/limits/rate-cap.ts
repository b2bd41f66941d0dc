/** What a cap promises is about any second, wherever it begins, milliseconds. */
const WINDOW_MS = 1000;
/** Bytes that moved within so long share one entry of the log, and count from the last of them, milliseconds. */
const SLOT_MS = 5;
/** At most the bytes of so long go out in one burst, milliseconds: devices on the way hold queues about as long. */
const BURST_MS = 100;

/** Rounding of sums of fractions must not refuse what fits exactly, bytes. */
const ROUNDING = 1e-6;

/**
 * At most `limit` bytes in any second, wherever that second begins: [t, t + 1 s) for every t.
 *
 * Bytes count from when they are taken, before they move, until a second after they have: what is asked of a peer and
 * has not come yet may come at any moment, so it takes room like what has just come. Whoever moves bytes asks `fits`
 * first, then calls `take`, and for each byte taken `moved` or `released` once. Within that, bytes are spread: a token
 * bucket of a tenth of a second keeps a second's worth from leaving at once.
 *
 * A piece larger than a whole second's worth fits only when nothing else is under way, and has to be paid for before
 * the next: its seconds hold more than the limit, the mean does not. Chunks of our cutter have 256 KiB at most, so that
 * this concerns limits under 2.1 Mbit/s.
 *
 * Pure: times are milliseconds of any clock that does not go back.
 */
export class RateCap {
  #limit: number;
  /** Taken, and neither moved nor released. */
  #pending = 0;
  /** Moved within the last second: at most one entry for each slot. */
  readonly #log: { readonly from: number; last: number; bytes: number }[] = [];
  #logged = 0;
  /** The bucket: negative after a piece that was larger than it. */
  #tokens: number;
  #filledAt = Number.NEGATIVE_INFINITY;

  /** @param limit bytes per second; Infinity is no limit, 0 lets nothing pass */
  constructor(limit: number = Number.POSITIVE_INFINITY) {
    if (!(limit >= 0)) throw new RangeError(`a rate of ${limit} bytes per second`);
    this.#limit = limit;
    this.#tokens = this.#burst;
  }

  /** Bytes per second. */
  get limit(): number {
    return this.#limit;
  }

  /** Another limit from now on; what moved under the old one still counts. */
  setLimit(limit: number, now: number): void {
    if (!(limit >= 0)) throw new RangeError(`a rate of ${limit} bytes per second`);
    if (limit === this.#limit) return;
    this.#fill(now);
    const unlimited = this.#limit === Number.POSITIVE_INFINITY;
    this.#limit = limit;
    this.#tokens = unlimited ? 0 : Math.min(this.#tokens, this.#burst);
  }

  /** True when `bytes` may be taken now. */
  fits(bytes: number, now: number): boolean {
    if (this.#limit === Number.POSITIVE_INFINITY) return true;
    if (this.#limit === 0) return false;
    this.#expire(now);
    this.#fill(now);
    if (this.#tokens + ROUNDING < Math.min(bytes, this.#burst)) return false;
    const used = this.#pending + this.#logged;
    return used === 0 || used + bytes <= this.#limit;
  }

  /** Bytes that could be taken now in pieces, 0 when not even the smallest fits. Never more than a burst. */
  room(now: number): number {
    if (this.#limit === Number.POSITIVE_INFINITY) return this.#limit;
    this.#expire(now);
    this.#fill(now);
    return Math.max(0, Math.min(this.#tokens, this.#limit - this.#pending - this.#logged));
  }

  /** These bytes may move at any time from now on. Not checked against `fits`: what must go, counts as well. */
  take(bytes: number, now: number): void {
    this.#fill(now);
    this.#pending += bytes;
    this.#tokens -= bytes;
  }

  /** So many of the bytes that were taken have moved. */
  moved(bytes: number, now: number): void {
    if (bytes <= 0) return;
    this.#expire(now);
    this.#pending = Math.max(0, this.#pending - bytes);
    this.#logged += bytes;
    const entry = this.#log.at(-1);
    if (entry !== undefined && now - entry.from < SLOT_MS) {
      entry.bytes += bytes;
      entry.last = now;
    } else this.#log.push({ from: now, last: now, bytes });
  }

  /** So many of the bytes that were taken will never move. */
  released(bytes: number): void {
    const back = Math.min(bytes, this.#pending);
    this.#pending -= back;
    this.#tokens = Math.min(this.#burst, this.#tokens + back);
  }

  /**
   * When `bytes` will fit if nothing else happens: `now` when they do already, Infinity when that takes a `moved`,
   * `released` or `setLimit`.
   */
  fitsAt(bytes: number, now: number): number {
    if (this.fits(bytes, now)) return now;
    if (this.#limit === 0) return Number.POSITIVE_INFINITY;
    const lacking = Math.min(bytes, this.#burst) - this.#tokens;
    const paid = lacking > 0 ? now + (lacking * 1000) / this.#limit : now;
    return Math.max(paid, this.#freeAt(bytes));
  }

  /** When the log has let go of enough. */
  #freeAt(bytes: number): number {
    // What is larger than the limit goes alone.
    const most = Math.max(0, this.#limit - bytes);
    if (this.#pending > most) return Number.POSITIVE_INFINITY;
    let used = this.#pending + this.#logged;
    let at = Number.NEGATIVE_INFINITY;
    for (const entry of this.#log) {
      if (used <= most) break;
      used -= entry.bytes;
      at = entry.last + WINDOW_MS;
    }
    return at;
  }

  get #burst(): number {
    return (this.#limit * BURST_MS) / 1000;
  }

  #fill(now: number): void {
    if (this.#limit === Number.POSITIVE_INFINITY) {
      this.#tokens = this.#burst;
    } else if (now > this.#filledAt) {
      const since = Math.min(now - this.#filledAt, 24 * 3_600_000);
      this.#tokens = Math.min(this.#burst, this.#tokens + (this.#limit * since) / 1000);
    }
    this.#filledAt = Math.max(now, this.#filledAt);
  }

  #expire(now: number): void {
    let oldest = this.#log[0];
    while (oldest !== undefined && oldest.last + WINDOW_MS <= now) {
      this.#log.shift();
      this.#logged = this.#log.length === 0 ? 0 : this.#logged - oldest.bytes;
      oldest = this.#log[0];
    }
  }
}
