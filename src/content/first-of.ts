import type { CID } from 'multiformats/cid';
import type { ChunkSource, GetOptions } from './chunk-source.ts';

export interface FirstOfOptions {
  /** A source failed (it may still be had from a later one). `index` is its position in the list. */
  readonly onFailure?: (error: unknown, index: number, cid: CID) => void;
}

/** No source had the chunk, and at least one failed. `errors` says how; a later try may succeed. */
export class SourcesFailed extends AggregateError {
  readonly code = 'SOURCES_FAILED';
  readonly cid: CID;

  constructor(cid: CID, errors: readonly unknown[]) {
    super(errors, `no source gave chunk ${cid}: ${errors.map(messageOf).join('; ')}`);
    this.name = 'SourcesFailed';
    this.cid = cid;
  }
}

/**
 * Asks the sources in order until one has the chunk, going past those that lack it, fail, or give wrong bytes.
 * `undefined` means that every one of them answered and none has it.
 */
export function firstOf(sources: readonly ChunkSource[], options: FirstOfOptions = {}): ChunkSource {
  return {
    async get(cid: CID, { signal }: GetOptions) {
      const errors: unknown[] = [];
      for (const [index, source] of sources.entries()) {
        try {
          const bytes = await source.get(cid, { signal });
          if (bytes) return bytes;
        } catch (error) {
          signal.throwIfAborted();
          errors.push(error);
          options.onFailure?.(error, index, cid);
        }
      }
      if (errors.length > 0) throw new SourcesFailed(cid, errors);
      return undefined;
    },
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
