export interface NewsOptions {
  /** News for neighbours are collected for as many milliseconds for each of them… @default 4 */
  readonly nearMsPerLink: number;
  /** …and longer when there are more than so many, since the messages of a site are the square of them… @default 6 */
  readonly nearLinks: number;
  /** …or until there are about so many chunks to tell, whichever is later… @default 3 */
  readonly nearChunks: number;
  /** …but no longer than this share of the time in which we shall have all, as near the end each one counts… @default 1/8 */
  readonly nearShare: number;
  /** …at least this, after a time without news… @default 5 */
  readonly nearShortestMs: number;
  /** …and at most this. @default 250 */
  readonly nearLongestMs: number;
  /** Peers outside our site hear of us at most once in this time, milliseconds… @default 2000 */
  readonly farMs: number;
  /** …and in this many milliseconds for each of them. @default 250 */
  readonly farMsPerLink: number;
  /** A neighbour that downloads with us hears of us this often at least while we download, milliseconds. @default 200 */
  readonly beatMs: number;
}

export const NEWS_DEFAULTS: NewsOptions = {
  nearMsPerLink: 4,
  nearLinks: 6,
  nearChunks: 3,
  nearShare: 1 / 8,
  nearShortestMs: 5,
  nearLongestMs: 250,
  farMs: 2_000,
  farMsPerLink: 250,
  beatMs: 200,
};

/** What the newest gap between two stored chunks weighs in the mean. */
const GAP_WEIGHT = 0.1;

/** What a chunk that we have now means to others. */
export interface Stored {
  /** Nobody else of our site had it. */
  readonly first: boolean;
  /** A reader waited for it: readers of the neighbours may, too, and it does not wait for others to come. */
  readonly awaited?: boolean;
  /** Chunks of the set that we still lack. */
  readonly left: number;
}

/** Chunk numbers to tell; each change once. */
export interface Changes {
  readonly added: readonly number[];
  readonly lost: readonly number[];
  /** What we are fetching from a seed or from outside from now on, and no longer although we did not get it. */
  readonly claimed: readonly number[];
  readonly unclaimed: readonly number[];
}

/**
 * What of one set the peers have yet to hear of us, and when they should. A message costs the same whatever is in it,
 * at both ends, and a node has one for every peer: so news wait for each other, longer the more there are to tell, and
 * longer when chunks come slowly: to be told of each at once costs as much as the chunks themselves and brings nothing,
 * until so few are left that everybody waits for each.
 * Peers outside the site hear little: news for each of them cross the uplink, and one node of a site that has a chunk
 * is as good as ten. Times are milliseconds of any monotonic clock.
 */
export class News {
  readonly #options: NewsOptions;
  readonly #near = new Pending();
  readonly #far = new Pending();
  #hurry = false;
  #awaited = false;
  #storedAt: number | undefined;
  /** A running mean of the time between two chunks that we store, milliseconds. */
  #gapMs = 0;
  /** Chunks that a download still lacks. */
  #left: number | undefined;

  constructor(options: Partial<NewsOptions> = {}) {
    this.#options = { ...NEWS_DEFAULTS, ...options };
  }

  /** We have the chunk now. */
  stored(index: number, { first, awaited = false, left }: Stored, now: number): void {
    this.#awaited ||= awaited;
    this.#left = left;
    const gap = Math.min(now - (this.#storedAt ?? now), this.#options.nearLongestMs);
    this.#gapMs += (gap - this.#gapMs) * GAP_WEIGHT;
    this.#storedAt = now;
    this.#near.added.push(index);
    this.#near.claimed.delete(index);
    this.#near.touch(now);
    if (!first) return;
    this.#far.added.push(index);
    this.#far.touch(now);
  }

  lost(index: number, now: number): void {
    this.#left = undefined;
    for (const pending of [this.#near, this.#far]) {
      pending.lost.push(index);
      pending.touch(now);
    }
  }

  claim(index: number, now: number): void {
    this.#near.claimed.add(index);
    this.#near.unclaimed.delete(index);
    this.#near.touch(now);
  }

  unclaim(index: number, now: number): void {
    if (!this.#near.claimed.delete(index)) this.#near.unclaimed.add(index);
    this.#near.touch(now);
  }

  /** Something else changed that everybody should hear. */
  changed(now: number): void {
    this.#near.touch(now);
    this.#far.touch(now);
  }

  /** There are news for the neighbours. */
  get waiting(): boolean {
    return this.#near.since !== undefined;
  }

  /** What is to be said to the neighbours must not wait. */
  hurry(): void {
    this.#hurry = true;
  }

  /**
   * When the neighbours should hear the next message; Infinity when there is none.
   * @param links of those who are to hear it @param beats we download, and have to be heard of now and then
   * @param lateMs how late this process has been lately, milliseconds: who has too much to do says less
   */
  nearAt(links: number, beats: boolean, lateMs = 0): number {
    const { nearMsPerLink, nearLinks, nearChunks, nearShare, nearShortestMs, nearLongestMs, beatMs } = this.#options;
    if (links === 0) return Number.POSITIVE_INFINITY;
    const { since, toldAt } = this.#near;
    const beat = beats ? toldAt + Math.max(beatMs, 0) : Number.POSITIVE_INFINITY;
    if (since === undefined) return beat;
    if (this.#hurry) return since;
    const paceMs = this.#awaited ? 0 : nearChunks * this.#gapMs;
    const crowdMs = nearMsPerLink * links * Math.max(1, links / nearLinks);
    const restMs = this.#left === undefined ? Number.POSITIVE_INFINITY : this.#left * this.#gapMs;
    const collectMs = Math.min(Math.max(crowdMs, paceMs), nearShare * restMs);
    return Math.min(beat, Math.max(since + nearShortestMs, toldAt + Math.min(nearLongestMs, collectMs + lateMs)));
  }

  /** When peers outside should; Infinity when there is nothing to say. */
  farAt(links: number): number {
    const { farMs, farMsPerLink, nearShortestMs } = this.#options;
    const { since, toldAt } = this.#far;
    if (since === undefined || links === 0) return Number.POSITIVE_INFINITY;
    return Math.max(since + nearShortestMs, toldAt + Math.max(farMs, farMsPerLink * links));
  }

  takeNear(now: number): Changes {
    this.#hurry = false;
    this.#awaited = false;
    return this.#near.take(now);
  }

  takeFar(now: number): Changes {
    return this.#far.take(now);
  }
}

class Pending {
  added: number[] = [];
  lost: number[] = [];
  readonly claimed = new Set<number>();
  readonly unclaimed = new Set<number>();
  /** Since when something waits to be told. */
  since: number | undefined;
  toldAt = Number.NEGATIVE_INFINITY;

  touch(now: number): void {
    this.since ??= now;
  }

  take(now: number): Changes {
    const changes = {
      added: this.added,
      lost: this.lost,
      claimed: [...this.claimed],
      unclaimed: [...this.unclaimed],
    };
    this.added = [];
    this.lost = [];
    this.claimed.clear();
    this.unclaimed.clear();
    this.since = undefined;
    this.toldAt = now;
    return changes;
  }
}
