import type { CID } from 'multiformats/cid';
import type { Frame } from '../lane/frame.ts';
import type { Priority } from './message.ts';
import type { Packed } from './packing.ts';

/** Requests of one peer that wait here; more are answered with busy. */
const MAX_QUEUED = 512;
/** Chunks of one peer between the store and its lane: some are read while others leave, several at a time. */
const PER_PEER = 16;

/** Chunks of all peers between the store and their lanes; each peer has one beyond it, so that none starves. */
export class UploadSlots {
  readonly #limit: () => number;
  #used = 0;

  /** @param limit chunks in hand at once */
  constructor(limit: () => number) {
    this.#limit = limit;
  }

  take(own: number): boolean {
    if (own > 0 && this.#used >= this.#limit()) return false;
    this.#used += 1;
    return true;
  }

  release(): void {
    this.#used -= 1;
  }
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

interface Wanted {
  readonly id: number;
  readonly cid: CID;
  readonly like: readonly CID[];
  readonly priority: Priority;
}

/** What one peer asked of us: answered by rank, then in its order, with a bounded number of chunks in hand. */
export class Uploads {
  readonly #deps: UploadsDeps;
  readonly #signal: AbortSignal;
  /** In order of rank. */
  readonly #queues: Readonly<Record<Priority, Wanted[]>> = { urgent: [], foreground: [], background: [] };
  #running = 0;

  constructor(deps: UploadsDeps, options: { readonly signal: AbortSignal }) {
    this.#deps = deps;
    this.#signal = options.signal;
  }

  /** `cid` undefined means that we know of no such chunk. */
  request(items: readonly (Omit<Wanted, 'cid'> & { cid: CID | undefined })[]): void {
    const missing: number[] = [];
    const busy: number[] = [];
    for (const { id, cid, like, priority } of items) {
      if (cid === undefined) missing.push(id);
      else if (this.#queued >= MAX_QUEUED) busy.push(id);
      else this.#queues[priority].push({ id, cid, like, priority });
    }
    if (missing.length + busy.length > 0) this.#deps.ended({ missing, busy });
    this.#next();
  }

  cancel(ids: readonly number[]): void {
    const given = new Set(ids);
    const cancelled: number[] = [];
    for (const queue of Object.values(this.#queues)) {
      for (let n = queue.length - 1; n >= 0; n -= 1) {
        const id = queue[n]?.id;
        if (id === undefined || !given.has(id)) continue;
        queue.splice(n, 1);
        cancelled.push(id);
      }
    }
    if (cancelled.length > 0) this.#deps.ended({ cancelled });
  }

  get #queued(): number {
    return this.#queues.urgent.length + this.#queues.foreground.length + this.#queues.background.length;
  }

  #next(): void {
    while (this.#running < PER_PEER && !this.#signal.aborted) {
      const queue = Object.values(this.#queues).find(({ length }) => length > 0);
      if (queue === undefined || !this.#deps.slots.take(this.#running)) return;
      const wanted = queue.shift() as Wanted;
      this.#running += 1;
      void this.#upload(wanted).finally(() => {
        this.#running -= 1;
        this.#deps.slots.release();
        this.#next();
      });
    }
  }

  async #upload({ id, cid, like, priority }: Wanted): Promise<void> {
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
