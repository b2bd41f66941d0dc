import type { Frame } from './frame.ts';

/**
 * What carries chunk bytes: a stream of the libp2p connection, which is always there, or one of two faster ones that a
 * pair may open beside it: TLS 1.3 and plain TCP.
 */
export type LaneKind = 'stream' | FastKind;
export type FastKind = 'tls' | 'plain';

/** A set of fast lanes as the wire names it. */
export const LANE_BITS: Readonly<Record<FastKind, number>> = { tls: 1, plain: 2 };

/** The best lane of a set: what costs least first. */
export function bestOf(lanes: number): FastKind | undefined {
  if ((lanes & LANE_BITS.plain) !== 0) return 'plain';
  return (lanes & LANE_BITS.tls) !== 0 ? 'tls' : undefined;
}

/** The kind that one bit names; undefined for anything else. */
export function kindOf(bit: number): FastKind | undefined {
  return bit === LANE_BITS.tls ? 'tls' : bit === LANE_BITS.plain ? 'plain' : undefined;
}

/**
 * Carries chunk bytes to a peer. The exchange knows only this; a libp2p stream, TLS or plain TCP may stand behind it.
 * Whatever arrives is verified by its receiver, so that a lane need not be trusted.
 */
export interface Lane {
  /** Queues a frame; resolves when the lane can take another. Rejects when the lane is gone. */
  send(frame: Frame, options: { readonly signal: AbortSignal }): Promise<void>;
  close(reason?: Error): void;
}

/** Where the frames that arrive go. */
export interface FrameSink {
  /** Most bytes that this frame may carry; 0 when nothing like it was asked for. */
  allow(request: number, flags: number): number;
  /** A buffer for the bytes of a frame that `allow` let pass. */
  allocate(length: number): Uint8Array;
  onFrame(frame: Frame): void;
  /** Bytes arrived, perhaps of an unfinished frame: the peer is alive. */
  onProgress(bytes: number): void;
}

/** What a lane tells its owner. */
export interface LaneEvents extends FrameSink {
  /** The lane is gone; `malformed` when it carried what is no frame. */
  onClose(malformed?: Error): void;
}
