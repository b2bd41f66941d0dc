import type { CID } from 'multiformats/cid';
import type { ChunkStore, GetOptions } from '../../src/content/chunk-source.ts';

/** Gives everything but one chunk, which it owes until `release`: who needs that one cannot get done before. */
export class Withholding implements ChunkStore {
  readonly #store: ChunkStore;
  #owed: { readonly cid: CID; readonly released: PromiseWithResolvers<void> } | undefined;

  constructor(store: ChunkStore) {
    this.#store = store;
  }

  withhold(cid: CID): void {
    this.release();
    this.#owed = { cid, released: Promise.withResolvers() };
  }

  release(): void {
    this.#owed?.released.resolve();
    this.#owed = undefined;
  }

  async get(cid: CID, options: GetOptions): Promise<Uint8Array | undefined> {
    if (this.#owed?.cid.equals(cid)) await this.#owed.released.promise;
    return await this.#store.get(cid, options);
  }

  has(cid: CID): boolean | Promise<boolean> {
    return this.#store.has(cid);
  }

  put(cid: CID, bytes: Uint8Array): Promise<void> {
    return this.#store.put(cid, bytes);
  }
}
