/**
 * So long one that offers to help waits for a neighbour with a better claim, milliseconds: what fills the links in both
 * directions delays messages, too.
 */
const OFFER_MS = 120;
/**
 * Offers at a time: what one node offers, no other does, so more than it soon carries out keeps the others from helping.
 * 8 nodes at 100 Mbit/s, 64 MiB in chunks of 128 KiB, simulated: 1.158, 1.110 and 1.106 × the bound with 32, 8 and 6.
 */
const MAX_OFFERS = 6;
/** One that came to nothing is taken back after some of the times. */
const OFFER_TIMES = 4;

const NO_NEWS = { claimed: [], unclaimed: [] } as const;

/**
 * First copies that we are fetching, from a seed or from outside, as we tell the neighbours. One that is somebody
 * else's to fetch is only offered at first: two nodes that help at once would fetch the same, so each says what it
 * means to fetch, waits a moment, and one yields.
 */
export class Claims {
  readonly all = new Set<number>();
  readonly #offeredAt = new Map<number, number>();
  #made: number[] = [];
  #dropped: number[] = [];

  add(index: number): void {
    if (this.all.has(index)) return;
    this.all.add(index);
    this.#made.push(index);
  }

  /** It is fetched no more. */
  drop(index: number): void {
    if (this.all.delete(index)) this.#dropped.push(index);
    this.#offeredAt.delete(index);
  }

  /** It is held. */
  kept(index: number): void {
    this.all.delete(index);
    this.#offeredAt.delete(index);
  }

  /** What is claimed and not yet asked for. */
  get offers(): Iterable<number> {
    return this.#offeredAt.keys();
  }

  /** True when it was offered before and nobody had a better claim. There are `maxOffers` at a time. */
  offer(index: number, now: number, maxOffers = MAX_OFFERS): boolean {
    const since = this.#offeredAt.get(index);
    if (since !== undefined) return now - since >= OFFER_MS;
    if (this.#offeredAt.size >= Math.min(maxOffers, MAX_OFFERS)) return false;
    this.#offeredAt.set(index, now);
    this.add(index);
    return false;
  }

  /** What was offered is asked for. */
  asked(index: number): void {
    this.#offeredAt.delete(index);
  }

  /** Takes back offers that are old, or of which `open` says that there is nothing left to help with. */
  takeBack(now: number, open: (index: number) => boolean): void {
    for (const [index, since] of this.#offeredAt)
      if (now - since >= OFFER_TIMES * OFFER_MS || !open(index)) this.drop(index);
  }

  /** When an offer may be carried out, or is to be taken back. */
  dueAt(now: number): number {
    let at = Number.POSITIVE_INFINITY;
    for (const since of this.#offeredAt.values())
      at = Math.min(at, since + (since + OFFER_MS > now ? OFFER_MS : OFFER_TIMES * OFFER_MS));
    return at;
  }

  /** Nothing is new, and nothing is offered. */
  get told(): boolean {
    return this.#made.length + this.#dropped.length + this.#offeredAt.size === 0;
  }

  /** What is new since the last call. */
  news(): { readonly claimed: readonly number[]; readonly unclaimed: readonly number[] } {
    if (this.#made.length + this.#dropped.length === 0) return NO_NEWS;
    const news = {
      claimed: this.#made.filter((index) => this.all.has(index)),
      unclaimed: this.#dropped.filter((index) => !this.all.has(index)),
    };
    this.#made = [];
    this.#dropped = [];
    return news;
  }
}
