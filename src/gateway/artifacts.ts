import type { CID } from 'multiformats/cid';
import type { ByteRange } from './byte-range.ts';

/** An artifact that may be read. `read` waits for bytes that are not here yet, and rejects when they cannot be had. */
export interface Artifact {
  /** Bytes. */
  readonly size: number;
  read(range: ByteRange & { readonly signal: AbortSignal }): AsyncIterable<Uint8Array>;
}

/** Decides what is served: undefined for a CID that no verified release of ours and no pin names. */
export interface Artifacts {
  open(cid: CID, options: { readonly signal: AbortSignal }): Promise<Artifact | undefined>;
}
