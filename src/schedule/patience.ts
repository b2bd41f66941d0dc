export interface PatienceOptions {
  /** Nobody is suspected sooner, milliseconds. @default 120 */
  readonly shortest: number;
  /** Nobody is trusted longer, milliseconds. @default 2000 */
  readonly longest: number;
  /** Before anything was measured, milliseconds. @default 400 */
  readonly first: number;
}

export const PATIENCE_DEFAULTS: PatienceOptions = { shortest: 120, longest: 2_000, first: 400 };

/** With a peer outside: what it owes us waits for all else on the uplink, and to ask another as well crosses it twice. */
export const FAR_PATIENCE: PatienceOptions = { shortest: 1_000, longest: 4_000, first: 2_000 };

/** Patience lost without reason is regained twice over, up to this factor… */
const MOST_CAUTION = 8;
/** …and worn down again by each answer. */
const CAUTION_KEPT = 0.98;

/**
 * How long an uploader that owes us bytes may be silent before it is suspected to be gone: the mean of the pauses
 * between its answers and four times their mean deviation, as TCP times its retransmissions (Jacobson 1988, RFC 6298);
 * for its first answer after a rest, the same of its delays. Times are milliseconds of any monotonic clock.
 */
export class Patience {
  readonly #options: PatienceOptions;
  readonly #pauses = new Spread();
  readonly #delays = new Spread();
  #caution = 1;
  /** Since when it owes us something, without a break; undefined when it owes nothing. */
  #owesSince: number | undefined;
  #answeredAt = 0;
  #progressAt = 0;

  constructor(options: Partial<PatienceOptions> = {}) {
    this.#options = { ...PATIENCE_DEFAULTS, ...options };
  }

  /** It owes us something from now on. */
  owes(now: number): void {
    this.#owesSince ??= now;
  }

  /** It owes us nothing any more. */
  settled(): void {
    this.#owesSince = undefined;
  }

  /** Bytes came, of a whole chunk or not. */
  progress(now: number): void {
    if (now > this.suspectAt) this.#caution = Math.min(MOST_CAUTION, this.#caution * 2);
    this.#progressAt = now;
  }

  /** A chunk came, `delay` after it was asked for. */
  answered(delay: number, now: number): void {
    this.progress(now);
    this.#caution = Math.max(1, this.#caution * CAUTION_KEPT);
    this.#delays.add(delay);
    const since = this.#owesSince ?? now;
    if (this.#answeredAt > since) this.#pauses.add(now - this.#answeredAt);
    this.#answeredAt = now;
  }

  /** When it will be suspected unless bytes come; Infinity while it owes nothing. */
  get suspectAt(): number {
    const since = this.#owesSince;
    if (since === undefined) return Number.POSITIVE_INFINITY;
    const { first } = this.#options;
    const limit =
      this.#progressAt <= since ? (this.#delays.late ?? first) : (this.#pauses.late ?? this.#delays.late ?? first);
    return Math.max(since, this.#progressAt) + this.#within(limit * this.#caution);
  }

  /** How long an answer takes at most as a rule, from asking, milliseconds. */
  get answerMs(): number {
    return this.#within((this.#delays.late ?? this.#options.first) * this.#caution);
  }

  /** Since when it has been silent although it owes us something; undefined when it owes nothing. */
  get silentSince(): number | undefined {
    return this.#owesSince === undefined ? undefined : Math.max(this.#owesSince, this.#progressAt);
  }

  #within(limit: number): number {
    return Math.min(this.#options.longest, Math.max(this.#options.shortest, limit));
  }
}

/** A running mean and mean deviation. */
class Spread {
  #mean = -1;
  #deviation = 0;

  add(value: number): void {
    if (this.#mean < 0) {
      this.#mean = value;
      this.#deviation = value / 2;
      return;
    }
    this.#deviation += (Math.abs(value - this.#mean) - this.#deviation) / 4;
    this.#mean += (value - this.#mean) / 8;
  }

  /** A value that few exceed. */
  get late(): number | undefined {
    return this.#mean < 0 ? undefined : this.#mean + 4 * this.#deviation;
  }
}
