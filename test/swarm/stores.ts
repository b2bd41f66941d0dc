import type { CID } from 'multiformats/cid';
import { MemoryStore } from '../fakes/memory-store.ts';

/** A store that flips one bit of what it gives: what a lying peer, or one with bad memory, serves. */
export class LyingStore extends MemoryStore {
  lies = 0;
  honest = false;

  override async get(cid: CID, options: { readonly signal: AbortSignal }): Promise<Uint8Array | undefined> {
    const bytes = await super.get(cid, options);
    if (bytes === undefined || this.honest) return bytes;
    this.lies += 1;
    const wrong = Uint8Array.from(bytes);
    wrong[this.lies % wrong.length] = (wrong[this.lies % wrong.length] ?? 0) ^ 1;
    return wrong;
  }
}

/** A store that takes its time, and can go silent. */
export class SlowStore extends MemoryStore {
  delayMs: number;
  silent = false;

  constructor(delayMs: number) {
    super();
    this.delayMs = delayMs;
  }

  override async get(cid: CID, options: { readonly signal: AbortSignal }): Promise<Uint8Array | undefined> {
    await new Promise((resolve) => setTimeout(resolve, this.delayMs));
    if (this.silent) await new Promise((_, reject) => options.signal.addEventListener('abort', reject, { once: true }));
    return super.get(cid, options);
  }
}
