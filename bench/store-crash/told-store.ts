import type { CID } from 'multiformats/cid';
import type { ChunkStore, GetOptions } from '../../src/content/chunk-source.ts';
import { silentLog } from '../../src/observe/log.ts';
import { PackStore } from '../../src/store/pack-store.ts';
import { STORE_OPTIONS } from './store-options.ts';
import { say } from './word.ts';

/** A pack store that tells what it has stored and synced, as soon as its promises count. */
export class ToldStore implements ChunkStore, AsyncDisposable {
  readonly #store: PackStore;
  #bytes = 0;

  private constructor(store: PackStore) {
    this.#store = store;
  }

  static async open(directory: string): Promise<ToldStore> {
    const onSync = (synced: { file: string; bytes: number }) => say({ said: 'synced', ...synced });
    return new ToldStore(await PackStore.open(directory, { log: silentLog }, { ...STORE_OPTIONS, onSync }));
  }

  has(cid: CID): boolean | Promise<boolean> {
    return this.#store.has(cid);
  }

  get(cid: CID, options: GetOptions): Promise<Uint8Array | undefined> {
    return this.#store.get(cid, options);
  }

  async put(cid: CID, bytes: Uint8Array): Promise<void> {
    const { length } = bytes;
    await this.#store.put(cid, bytes);
    this.#bytes += length;
    say({ said: 'stored', bytes: this.#bytes });
  }

  flush(): Promise<void> {
    return this.#store.flush();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }
}
