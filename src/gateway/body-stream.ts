import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { finished } from 'node:stream/promises';

export interface BodyOptions {
  /** Bytes that were promised in Content-Length. */
  readonly length: number;
  /** Aborted when the client has gone. */
  readonly signal: AbortSignal;
  /** Milliseconds without a single piece from the source, or taken by the reader, after which it is over. */
  readonly stallMs: number;
  /** Called for each piece that was handed to the connection. */
  readonly onBytes: (bytes: number) => void;
}

/** What a source gave is not what it promised, or it came to a standstill: the answer cannot be completed. */
export class BodyError extends Error {
  readonly code = 'BODY';

  constructor(message: string) {
    super(message);
    this.name = 'BodyError';
  }
}

/** Bytes handed to the socket at once; a reader must take this many in each `stallMs`. */
const PIECE_BYTES = 256 * 1024;

/**
 * Sends what `read` yields as the body of an answer whose head is written, at the reader's pace: at most one piece of
 * the source is held. Resolves when the last byte has been handed to the kernel. When the source fails, yields too
 * much or too little, or stalls, the promise rejects and the caller must destroy the response: a client then sees
 * a connection that broke, never an answer that looks whole.
 */
export async function sendBody(
  response: ServerResponse,
  read: (signal: AbortSignal) => AsyncIterable<Uint8Array>,
  { length, signal, stallMs, onBytes }: BodyOptions,
): Promise<void> {
  const stop = new AbortController();
  const follow = () => stop.abort(signal.reason);
  const stalled = setTimeout(() => stop.abort(new BodyError(`no progress for ${stallMs} ms`)), stallMs);
  signal.addEventListener('abort', follow, { once: true });
  if (signal.aborted) follow();
  let sent = 0;
  try {
    for await (const bytes of read(stop.signal)) {
      stop.signal.throwIfAborted();
      sent += bytes.length;
      if (sent > length) throw new BodyError(`the source yields more than ${length} bytes`);
      for (let start = 0; start < bytes.length; start += PIECE_BYTES) {
        const piece = bytes.subarray(start, start + PIECE_BYTES);
        if (!response.write(piece)) await once(response, 'drain', { signal: stop.signal });
        onBytes(piece.length);
        stalled.refresh();
      }
      if (sent === length) break;
    }
    stop.signal.throwIfAborted();
    if (sent < length) throw new BodyError(`the source ended after ${sent} of ${length} bytes`);
    response.end();
    await finished(response, { signal: stop.signal, cleanup: true });
  } catch (error) {
    throw stop.signal.aborted ? stop.signal.reason : error;
  } finally {
    clearTimeout(stalled);
    signal.removeEventListener('abort', follow);
  }
}
