/** In order of rank. */
export const RANKS = ['urgent', 'foreground', 'background'] as const;
export type Rank = (typeof RANKS)[number];

export interface UploadQueueOptions<R> {
  /** How many copies of what is asked for are about, as far as we know. The fewer, the sooner it leaves. */
  copies(request: R): number;
  /** A peer may have got so many bytes more than the one that got least, for the sake of rarer chunks. @default 128 KiB */
  readonly slack: number;
}

/** Requests of one peer that are looked at for the rarest. */
const LOOKS = 32;

interface Turn<P, R> {
  readonly peer: P;
  readonly queues: Readonly<Record<Rank, R[]>>;
  /** Bytes that it was given, counted from what the others had when it came. */
  given: number;
}

/**
 * What peers ask of us and in which order it leaves: what a reader waits for first, background work last; among equals
 * the rarest chunk, so that each leaves once before any leaves twice, while no peer gets much more than another.
 */
export class UploadQueue<P, R> {
  readonly #options: UploadQueueOptions<R>;
  /** Peers that have something in the queue. */
  readonly #turns = new Map<P, Turn<P, R>>();
  /** What the peer that got least had been given when it was last chosen from. */
  #level = 0;

  constructor(options: Pick<UploadQueueOptions<R>, 'copies'> & Partial<UploadQueueOptions<R>>) {
    this.#options = { slack: 128 * 1024, ...options };
  }

  add(peer: P, rank: Rank, request: R): void {
    let turn = this.#turns.get(peer);
    if (turn === undefined) {
      turn = { peer, queues: { urgent: [], foreground: [], background: [] }, given: this.#level };
      this.#turns.set(peer, turn);
    }
    turn.queues[rank].push(request);
  }

  /** How many requests of the peer wait. */
  countOf(peer: P): number {
    const turn = this.#turns.get(peer);
    return turn === undefined ? 0 : RANKS.reduce((sum, rank) => sum + turn.queues[rank].length, 0);
  }

  /** Takes the peer's requests out for which `which` is true, and returns them. */
  remove(peer: P, which: (request: R) => boolean = () => true): R[] {
    const turn = this.#turns.get(peer);
    if (turn === undefined) return [];
    const removed: R[] = [];
    for (const rank of RANKS) {
      const kept: R[] = [];
      for (const request of turn.queues[rank]) (which(request) ? removed : kept).push(request);
      turn.queues[rank].splice(0, Number.POSITIVE_INFINITY, ...kept);
    }
    this.#drop(turn);
    return removed;
  }

  /** The next to leave; undefined when there is none. @param ready peers that can be sent something now */
  next(ready: (peer: P) => boolean): { readonly peer: P; readonly rank: Rank; readonly request: R } | undefined {
    for (const rank of RANKS) {
      let least = Number.POSITIVE_INFINITY;
      for (const turn of this.#turns.values())
        if (turn.queues[rank].length > 0 && turn.given < least && ready(turn.peer)) least = turn.given;
      if (least < Number.POSITIVE_INFINITY) return this.#choose(rank, least, ready);
    }
    return undefined;
  }

  /** So many bytes were taken for the peer. */
  gave(peer: P, bytes: number): void {
    const turn = this.#turns.get(peer);
    if (turn) turn.given += bytes;
  }

  /** @param least bytes given to the peer that got least of those that may be chosen */
  #choose(rank: Rank, least: number, ready: (peer: P) => boolean) {
    this.#level = Math.max(this.#level, least);
    let best: Turn<P, R> | undefined;
    let place = 0;
    let copies = Number.POSITIVE_INFINITY;
    for (const turn of this.#turns.values()) {
      const queue = turn.queues[rank];
      if (queue.length === 0 || turn.given > least + this.#options.slack || !ready(turn.peer)) continue;
      for (let n = 0; n < Math.min(LOOKS, queue.length); n += 1) {
        const count = this.#options.copies(queue[n] as R);
        if (count > copies || (count === copies && best !== undefined && turn.given >= best.given)) continue;
        best = turn;
        place = n;
        copies = count;
      }
    }
    if (best === undefined) return undefined;
    const [request] = best.queues[rank].splice(place, 1);
    this.#drop(best);
    return { peer: best.peer, rank, request: request as R };
  }

  #drop(turn: Turn<P, R>): void {
    if (RANKS.every((rank) => turn.queues[rank].length === 0)) this.#turns.delete(turn.peer);
  }
}
