import type { ChunkSet } from '../content/chunk-set.ts';
import type { ChunkStore } from '../content/chunk-source.ts';
import type { Likeness } from '../delta/likeness.ts';
import { HaveMap } from '../schedule/have-map.ts';
import { News, type NewsOptions } from '../schedule/news.ts';
import { MESSAGE_LIMITS, type Message } from './message.ts';
import type { Offer } from './uploads.ts';

/** A chunk set that we hold a part of, or want, and what of it the peers have yet to hear. */
export class LocalSet {
  readonly set: ChunkSet;
  readonly key: string;
  /** Our short name for it, the same on every link. */
  readonly handle: number;
  readonly have: HaveMap;
  /** Older chunks that its chunks are like, when we hold any. */
  likeness: Likeness | undefined;
  /** We are downloading it. */
  wanted = false;
  /** Chunks that we are fetching from a seed or from outside. */
  readonly claims = new Set<number>();
  readonly news: News;
  /** How many neighbours hold a chunk, while a download knows. */
  holders: ((index: number) => number) | undefined;
  /** How often we sent each chunk. */
  #sent: Uint8Array | undefined;

  private constructor(set: ChunkSet, handle: number, have: HaveMap, options: Partial<NewsOptions>) {
    this.news = new News(options);
    this.set = set;
    this.key = set.id.toString();
    this.handle = handle;
    this.have = have;
  }

  /** Asks the store for every chunk of the set. */
  static async open(
    set: ChunkSet,
    handle: number,
    store: ChunkStore,
    options: Partial<NewsOptions>,
  ): Promise<LocalSet> {
    const { chunks } = set;
    if (chunks.length > MESSAGE_LIMITS.chunks) {
      throw new RangeError(`set ${set.id} has ${chunks.length} chunks; at most ${MESSAGE_LIMITS.chunks} are exchanged`);
    }
    const have = new HaveMap(chunks.length);
    for (const [index, { cid }] of chunks.entries()) {
      const held = store.has(cid);
      if (held === true || (held !== false && (await held))) have.add(index);
    }
    return new LocalSet(set, handle, have, options);
  }

  /** The chunk at a place; undefined when the set has no such place. */
  offer(index: number): Offer | undefined {
    const chunk = this.set.chunks[index];
    if (chunk === undefined) return undefined;
    return {
      cid: chunk.cid,
      copies: () => (this.#sent?.[index] ?? 0) + (this.holders?.(index) ?? 0),
      sent: () => {
        this.#sent ??= new Uint8Array(this.set.chunks.length);
        this.#sent[index] = Math.min(255, (this.#sent[index] ?? 0) + 1);
      },
    };
  }

  /** @param first no neighbour that we know of has it @param awaited a reader waited for it */
  stored(index: number, first: boolean, awaited = false): void {
    if (!this.have.add(index)) return;
    this.claims.delete(index);
    this.news.stored(index, { first, awaited, left: this.have.missing }, performance.now());
  }

  /** The store no longer has it. */
  lost(index: number): void {
    if (this.have.delete(index)) this.news.lost(index, performance.now());
  }

  claim(index: number): void {
    this.claims.add(index);
    this.news.claim(index, performance.now());
  }

  unclaim(index: number): void {
    if (this.claims.delete(index)) this.news.unclaim(index, performance.now());
  }

  /** All that we have to say about the set. */
  subscribe(outside: boolean): Extract<Message, { kind: 'subscribe' }> {
    return {
      kind: 'subscribe',
      handle: this.handle,
      set: this.set.id,
      chunks: this.set.chunks.length,
      have: this.have.complete ? 'all' : this.have.count === 0 ? new Uint8Array() : this.have.bytes(),
      wants: this.wanted,
      outside,
      claimed: [...this.claims].slice(0, MESSAGE_LIMITS.indexes),
    };
  }

  /** What changed since the last call, in messages small enough to send; at least one. */
  changes(audience: 'near' | 'far', outside: boolean): Extract<Message, { kind: 'have' }>[] {
    const now = performance.now();
    const lists = audience === 'near' ? this.news.takeNear(now) : this.news.takeFar(now);
    const longest = Math.max(1, ...Object.values(lists).map((list: readonly number[]) => list.length));
    const messages: Extract<Message, { kind: 'have' }>[] = [];
    for (let n = 0; n < longest; n += MESSAGE_LIMITS.indexes) {
      const part = (list: readonly number[]) => list.slice(n, n + MESSAGE_LIMITS.indexes);
      messages.push({
        kind: 'have',
        handle: this.handle,
        added: part(lists.added),
        claimed: part(lists.claimed),
        unclaimed: part(lists.unclaimed),
        lost: part(lists.lost),
        wants: this.wanted,
        outside,
      });
    }
    return messages;
  }
}
