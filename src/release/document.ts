/**
 * The documents of a fleet's release metadata, by the names that TUF gives them under consistent snapshots (TUF 1.0.31,
 * section 6.2). All but the timestamp are immutable.
 */
export type Documents = ReadonlyMap<string, Buffer>;

/** Reads a document from somewhere: undefined when it is not there. Whether it is true, others find out. */
export type ReadDocument = (name: string, maxBytes: number) => Promise<Uint8Array | undefined>;

/** Bytes per kind of document; a longer one is refused unread. */
export const DOCUMENT_BYTES = {
  root: 64 * 1024,
  timestamp: 16 * 1024,
  snapshot: 64 * 1024,
  /** With a trust list of 1,000 issuers. */
  targets: 512 * 1024,
} as const;

/** A fleet's channels, and so the documents of one state, are few. */
export const MAX_CHANNELS = 32;
/** Roots that one refresh walks through; the next refresh goes on from there. */
export const MAX_ROOT_STEPS = 64;

export const TIMESTAMP = 'timestamp.json';
export const rootName = (version: number): string => `${version}.root.json`;
export const snapshotName = (version: number): string => `${version}.snapshot.json`;
/** `role` is `targets` or a channel. */
export const targetsName = (role: string, version: number): string => `${version}.${role}.json`;
/** Path of a channel's only target, as the targets metadata names it. */
export const releasePath = (channel: string): string => `${channel}/release.json`;
/** Where that target lies: TUF puts the hash before the last part of its path. */
export const releaseName = (channel: string, digest: string): string => `targets/${channel}/${digest}.release.json`;
