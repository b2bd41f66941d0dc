import type { CID } from 'multiformats/cid';
import { DEFAULT_CHUNK_SIZES } from '../content/chunker.ts';
import type { Frame } from '../lane/frame.ts';
import { UploadQueue } from '../schedule/upload-queue.ts';
import type { Priority } from './message.ts';
import type { Packed } from './packing.ts';

/** Requests of one peer that wait here; more are answered with busy. */
const MAX_QUEUED = 512;
/** Chunks of one peer between the store and its lane: some are read while others leave, several at a time. */
const PER_PEER = 16;
/** What a chunk weighs in the turns between peers before it is read, bytes. */
const USUAL_BYTES = DEFAULT_CHUNK_SIZES.average;

/** A chunk of ours that a peer may ask for. */
export interface Offer {
  readonly cid: CID;
  /** How many copies of it there are, as far as we know: those that we sent, and those that neighbours say they hold. */
  copies(): number;
  sent(): void;
}

/** A block that was asked for by its name alone. */
export class Named implements Offer {
  readonly cid: CID;

  constructor(cid: CID) {
    this.cid = cid;
  }

  copies(): number {
    return 0;
  }

  sent(): void {}
}

interface Wanted {
  readonly id: number;
  readonly offer: Offer;
  readonly like: readonly CID[];
  readonly priority: Priority;
}

export interface UploadsDeps {
  /**
   * A chunk as it leaves, from the local store and nothing that might fetch: we never forward. `like` are chunks that
   * the peer says it has. Undefined when it is not there, or cannot be read.
   */
  pack(cid: CID, like: readonly CID[], options: { readonly signal: AbortSignal }): Promise<Packed | undefined>;
  readonly slots: UploadSlots;
  /** Resolves when the lane can take another frame, which may be after the bytes have waited for a rate cap. */
  send(frame: Frame, priority: Priority): Promise<void>;
  /** These requests end without bytes. */
  ended(ids: { missing?: number[]; busy?: number[]; cancelled?: number[] }): void;
  onSent(bytes: number): void;
  /** The store had no such chunk although it was announced, or could not read it. */
  onMissing(cid: CID): void;
}

/** What peers asked of us that waits, and how many chunks of all of them are between the store and their lanes. */
export class UploadSlots {
  readonly #queue = new UploadQueue<Uploads, Wanted>({ copies: ({ offer }) => offer.copies() });
  readonly #limit: () => number;
  #used = 0;

  /** @param limit chunks in hand at once; each peer has one beyond it, so that none starves */
  constructor(limit: () => number) {
    this.#limit = limit;
  }

  waiting(uploads: Uploads): number {
    return this.#queue.countOf(uploads);
  }

  add(uploads: Uploads, wanted: Wanted): void {
    this.#queue.add(uploads, wanted.priority, wanted);
  }

  remove(uploads: Uploads, which?: (wanted: Wanted) => boolean): Wanted[] {
    return this.#queue.remove(uploads, which);
  }

  /** Hands out what may leave now. */
  pump(): void {
    for (;;) {
      const free = this.#used < this.#limit();
      const next = this.#queue.next(({ running }) => running < PER_PEER && (free || running === 0));
      if (next === undefined) return;
      this.#used += 1;
      this.#queue.gave(next.peer, USUAL_BYTES);
      void next.peer.upload(next.request).finally(() => {
        this.#used -= 1;
        this.pump();
      });
    }
  }
}

/** What one peer asked of us; the order in which it leaves is that of all peers' requests together. */
export class Uploads {
  /** Chunks between the store and the peer's lane. */
  running = 0;
  readonly #deps: UploadsDeps;
  readonly #signal: AbortSignal;

  constructor(deps: UploadsDeps, options: { readonly signal: AbortSignal }) {
    this.#deps = deps;
    this.#signal = options.signal;
    options.signal.addEventListener('abort', () => deps.slots.remove(this), { once: true });
  }

  /** `offer` undefined means that we know of no such chunk. */
  request(items: readonly (Omit<Wanted, 'offer'> & { readonly offer: Offer | undefined })[]): void {
    if (this.#signal.aborted) return;
    const { slots } = this.#deps;
    const missing: number[] = [];
    const busy: number[] = [];
    for (const { id, offer, like, priority } of items) {
      if (offer === undefined) missing.push(id);
      else if (slots.waiting(this) >= MAX_QUEUED) busy.push(id);
      else slots.add(this, { id, offer, like, priority });
    }
    if (missing.length + busy.length > 0) this.#deps.ended({ missing, busy });
    slots.pump();
  }

  cancel(ids: readonly number[]): void {
    const given = new Set(ids);
    const cancelled = this.#deps.slots.remove(this, ({ id }) => given.has(id)).map(({ id }) => id);
    if (cancelled.length > 0) this.#deps.ended({ cancelled });
  }

  /** Resolves when the chunk has left, or cannot. Called by the slots. */
  async upload({ id, offer, like, priority }: Wanted): Promise<void> {
    this.running += 1;
    offer.sent();
    try {
      await this.#upload({ id, cid: offer.cid, like, priority });
    } finally {
      this.running -= 1;
    }
  }

  async #upload({ id, cid, like, priority }: Omit<Wanted, 'offer'> & { readonly cid: CID }): Promise<void> {
    const packed = await this.#deps.pack(cid, like, { signal: this.#signal }).catch(() => undefined);
    if (this.#signal.aborted) return;
    if (packed === undefined) {
      this.#deps.onMissing(cid);
      return this.#deps.ended({ missing: [id] });
    }
    // A lane that fails closes its link, which ends every request of it.
    await this.#deps.send({ request: id, ...packed }, priority).then(
      () => {
        this.#deps.onSent(packed.bytes.length);
        packed.release?.();
      },
      () => undefined,
    );
  }
}
