import type { CID } from 'multiformats/cid';
import type { Log } from '../observe/log.ts';
import type { Watermarks } from './pack-gc.ts';

/** A record that does not match its hash any more. */
export interface Damage {
  readonly cid: CID;
  /** Path of the segment file. */
  readonly file: string;
  /** Offset of the record in it, in bytes. */
  readonly offset: number;
}

export interface StoreDeps {
  readonly log: Log;
  /** A clock that only goes forward, in seconds. @default performance.now() / 1000 */
  readonly seconds?: () => number;
}

export interface PackStoreOptions {
  /** Size at which a segment is closed, in bytes; also what GC needs as spare space. @default 128 MiB */
  readonly segmentBytes?: number;
  /** Sync after this many bytes… @default 32 MiB */
  readonly syncBytes?: number;
  /** …or this many milliseconds, whichever comes first. @default 500 */
  readonly syncMilliseconds?: number;
  /** Space that is left free on the disk: for the index, and for GC to work in. @default 32 MiB */
  readonly reserveBytes?: number;
  /** When the segments exceed `highBytes`, unpinned chunks are evicted until `lowBytes` are left. @default never */
  readonly watermarks?: Watermarks;
  /** A chunk that was put or read within this many seconds is in use, and is not evicted. @default 600 */
  readonly graceSeconds?: number;
  /** Called for each damaged record that is found, after it was dropped. */
  readonly onDamage?: (damage: Damage) => void;
  /** Called when chunks were evicted, before anybody can ask for them again. */
  readonly onEvict?: (cids: readonly CID[]) => void;
  /** Called after each sync, before the index relies on it: the segment is on disk up to `bytes`. */
  readonly onSync?: (synced: { readonly file: string; readonly bytes: number }) => void;
}

export interface StoreStats {
  readonly chunks: number;
  /** Payload bytes of the chunks. */
  readonly bytes: number;
  /** Bytes of the segment files, dead records included. */
  readonly diskBytes: number;
  readonly segments: number;
}

export interface VerifyReport {
  readonly chunks: number;
  readonly bytes: number;
  /** What was found wrong, and has been dropped: the next read fetches it again. */
  readonly damaged: readonly Damage[];
}

export const PACK_STORE_DEFAULTS = {
  segmentBytes: 128 * 1024 * 1024,
  syncBytes: 32 * 1024 * 1024,
  syncMilliseconds: 500,
  reserveBytes: 32 * 1024 * 1024,
  graceSeconds: 600,
} as const;
export type PackStoreDefaults = Readonly<Record<keyof typeof PACK_STORE_DEFAULTS, number>>;
