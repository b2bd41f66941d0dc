import type { PackStoreOptions } from '../../src/store/pack-options.ts';

/** Small enough that one work makes many segments and many syncs, so that kills land between all of them. */
export const STORE_OPTIONS: PackStoreOptions = {
  segmentBytes: 6 * 1024 * 1024,
  syncBytes: 3 * 1024 * 1024,
  syncMilliseconds: 5,
};
