import type { CID } from 'multiformats/cid';
import { chunkKey } from './chunk.ts';
import type { ChunkSource, GetOptions } from './chunk-source.ts';

interface Fetch {
  readonly result: Promise<Uint8Array | undefined>;
  readonly stop: AbortController;
  waiters: number;
}

/**
 * Callers that want the same chunk at the same time share one fetch. It runs on a signal of its own, which is aborted
 * when the last waiter leaves: one client's disconnect does not end its neighbours' boots. Waiters share the bytes:
 * none may change them.
 */
export function coalesced(source: ChunkSource): ChunkSource {
  const fetches = new Map<string, Fetch>();

  const begin = (key: string, cid: CID): Fetch => {
    const stop = new AbortController();
    const result = source.get(cid, { signal: stop.signal });
    const fetch = { result, stop, waiters: 0 };
    fetches.set(key, fetch);
    const end = () => {
      if (fetches.get(key) === fetch) fetches.delete(key);
    };
    result.then(end, end);
    return fetch;
  };

  return {
    async get(cid: CID, { signal }: GetOptions) {
      signal.throwIfAborted();
      const key = chunkKey(cid);
      const fetch = fetches.get(key) ?? begin(key, cid);
      fetch.waiters++;
      try {
        return await untilAborted(fetch.result, signal);
      } finally {
        fetch.waiters--;
        if (fetch.waiters === 0) {
          if (fetches.get(key) === fetch) fetches.delete(key);
          fetch.stop.abort(new DOMException('the last waiter left', 'AbortError'));
        }
      }
    },
  };
}

/** The promise's outcome, or a rejection with the signal's reason as soon as it aborts. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
