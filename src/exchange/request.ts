import type { CID } from 'multiformats/cid';
import type { Encoded } from '../content/chunk-source.ts';
import type { Priority } from './message.ts';
import type { Expected } from './packing.ts';

/** Why a request ended without (useful) bytes. */
export type EndReason = 'missing' | 'busy' | 'cancelled' | 'corrupt' | 'closed';

/** Who was asked. */
export interface Asked {
  readonly peerId: string;
}

export interface RequestOwner {
  /** Verified bytes of the chunk; `encoded` when they came as a zstd frame that can be kept. */
  bytes(asked: Asked, request: PendingRequest, bytes: Uint8Array, encoded?: Encoded): void;
  ended(asked: Asked, request: PendingRequest, reason: EndReason): void;
}

export interface Ask extends Expected {
  readonly cid: CID;
  /** The chunk's place in a set that we subscribed to under `handle`. */
  readonly place?: { readonly handle: number; readonly index: number };
  readonly priority: Priority;
}

export interface PendingRequest extends Ask {
  readonly id: number;
  readonly owner: RequestOwner;
  readonly sentAt: number;
  /** Given up; its bytes are still taken when they arrive. */
  cancelled: boolean;
  /** Its frame is here and is being unpacked. */
  arrived: boolean;
  /** The throttle knows what came of it. */
  settled: boolean;
}

/** What a block of unknown size weighs: it is a manifest node more often than a full chunk. */
export const BLOCK_BYTES = 64 * 1024;

/** What a request weighs in its window and under the rate caps. */
export function sizeOf(ask: Ask): number {
  return ask.size ?? BLOCK_BYTES;
}
