import type { Scene } from '../site/scene.ts';
import type { VersionPair } from './version-pair.ts';

/** A way to bring the second version to a node that has the first: ours, or another program's. */
export interface Updater {
  readonly name: string;
  /** What must be installed first, as a sentence; undefined when it can run. */
  missing(): Promise<string | undefined>;
  version(): Promise<string>;
  /** The origin offers the second version, the node has the first, and nothing crosses the wire any more. */
  prepare(scene: Scene, pair: VersionPair, options: { readonly signal: AbortSignal }): Promise<Update>;
}

/** One update that can start. */
export interface Update extends AsyncDisposable {
  /** Resolves when the node has all of the second version. */
  go(): Promise<void>;
  /** Of the node's copy, afterwards; hexadecimal. */
  sha256(): Promise<string>;
  /** Bytes that the updater itself says it has sent and received in `go`. */
  counted?(): Promise<number>;
}
