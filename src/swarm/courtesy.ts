/** The first two questions are at least so far apart, milliseconds, and each pause is twice the one before… */
const FIRST_PAUSE_MS = 1_000;
/** …up to this: then somebody new on the segment, or a segment that was torn apart, is found by its own questions. */
const LONGEST_PAUSE_MS = 30_000;
/** Part of a pause that is random, so that one asks and the others hear it. */
const JITTER = 0.5;
/** Nothing is said twice in this time, milliseconds (RFC 6762 section 6). */
const REPEAT_MS = 1_000;
/** All who have an answer wait for some of this time, milliseconds (same section). */
const ANSWER_MS = [20, 120] as const;

/**
 * When to ask and when to answer by multicast DNS (RFC 6762), so that a segment of N nodes carries N answers per
 * question, and one question per pause instead of N. Times are milliseconds of any monotonic clock.
 */
export class Courtesy {
  readonly #random: () => number;
  #pause = FIRST_PAUSE_MS;
  /** Since when the pause is as long as it is. */
  #pauseSince: number;
  #askAt: number;
  #answeredAt = Number.NEGATIVE_INFINITY;

  /** @param now when the first question was asked */
  constructor(deps: { random(): number }, now: number) {
    this.#random = deps.random;
    this.#pauseSince = now;
    this.#askAt = now + this.#jittered(FIRST_PAUSE_MS);
  }

  mayAsk(now: number): boolean {
    return now >= this.#askAt;
  }

  /** The question was on the segment, ours or somebody else's, whose answers we hear as well (section 7.3). */
  asked(now: number): void {
    // When all start at once, each hears many: that is one round of questions.
    if (now >= this.#pauseSince + this.#pause) {
      this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE_MS);
      this.#pauseSince = now;
    }
    this.#askAt = Math.max(this.#askAt, now + this.#jittered(this.#pause));
  }

  /** How long our answer to a question heard now waits, milliseconds. It answers all questions until then. */
  answer(now: number): number {
    const [least, most] = ANSWER_MS;
    const at = Math.max(now + least + this.#random() * (most - least), this.#answeredAt + REPEAT_MS);
    this.#answeredAt = at;
    return at - now;
  }

  #jittered(pause: number): number {
    return pause * (1 + JITTER * this.#random());
  }
}
