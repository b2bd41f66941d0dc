import type { Frame } from './frame.ts';

/**
 * Carries chunk bytes between two peers, both ways. The exchange knows only this; a libp2p stream, TLS or plain TCP
 * may stand behind it. Whatever arrives is verified by its receiver, so that a lane need not be trusted.
 */
export interface Lane {
  /** Queues a frame; resolves when the lane can take another. Rejects when the lane is gone. */
  send(frame: Frame, options: { readonly signal: AbortSignal }): Promise<void>;
  close(reason?: Error): void;
}

/** What a lane tells its owner. */
export interface LaneEvents {
  /** Most bytes that this frame may carry; 0 when nothing like it was asked for. */
  allow(request: number, flags: number): number;
  /** A buffer for the bytes of a frame that `allow` let pass. */
  allocate(length: number): Uint8Array;
  onFrame(frame: Frame): void;
  /** Bytes arrived, perhaps of an unfinished frame: the peer is alive. */
  onProgress(bytes: number): void;
  /** The lane is gone; `malformed` when it carried what is no frame. */
  onClose(malformed?: Error): void;
}
