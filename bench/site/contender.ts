import type { Scene } from './scene.ts';

/** The file that everybody is to get. */
export interface Payload {
  readonly path: string;
  readonly bytes: number;
  /** Hexadecimal. */
  readonly sha256: string;
}

/** A way to bring a payload from the origin to every node: ours, or another program's. */
export interface Contender {
  readonly name: string;
  /** What must be installed first, as a sentence; undefined when it can run. */
  missing(): Promise<string | undefined>;
  /** The program and its version, for the record. */
  version(): Promise<string>;
  /**
   * Starts everything and resolves when the race can: the origin has the payload, no receiver has a byte of it, and
   * those that will talk to each other know each other. The places' directories are empty; the runner clears them
   * after the race.
   */
  prepare(scene: Scene, payload: Payload, options: { readonly signal: AbortSignal }): Promise<Race>;
}

/** One race that can start. Disposing ends all of its processes. */
export interface Race extends AsyncDisposable {
  /** All receivers start. */
  go(): void;
  /** In the order of `scene.nodes`: milliseconds from `go` until the node's copy is complete. Rejects when it fails. */
  readonly finished: readonly Promise<number>[];
  /** Of the node's copy, computed from its file or its agent after the clock stopped; hexadecimal. */
  sha256(node: number): Promise<string>;
  /** Processes that live now: their CPU time, that of their waited children, and their memory are counted. */
  pids(): readonly number[];
  /** Payload bytes that the origin has sent so far, where the contender can tell. */
  payloadSent?(): Promise<number>;
  /** Payload bytes that each node has received so far, also in an earlier life of its process. */
  payloadReceived?(): Promise<readonly number[]>;
  /** How the bytes travel, for the record: `plain`, `tls`, `libp2p`. */
  lane?(): Promise<string>;
  /** SIGKILL, at once. A killed node's `finished` stays open: it may be restarted. */
  kill(place: 'origin' | number): void;
  /** Starts a killed node again, with what it has on disk. */
  restart?(node: number): Promise<void>;
}
