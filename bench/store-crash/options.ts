/** Small enough that one import makes many segments and many syncs, so that kills land between all of them. */
export const STORE_OPTIONS = { segmentBytes: 6 * 1024 * 1024, syncBytes: 3 * 1024 * 1024, syncMilliseconds: 5 };
