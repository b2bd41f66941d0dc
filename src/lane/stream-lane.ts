import type { Stream, StreamMessageEvent } from '@libp2p/interface';
import { encodeFrames, type Frame, FrameReader, MalformedFrame } from './frame.ts';
import type { Lane, LaneEvents } from './lane.ts';

export const LANE_PROTOCOL = '/bootmesh/lane/1.0.0';

interface Waiting {
  readonly frame: Frame;
  readonly sent: PromiseWithResolvers<void>;
}

/** Chunk bytes over a libp2p stream: encrypted and authenticated by Noise, shared with the connection's other streams. */
export class StreamLane implements Lane {
  readonly #stream: Stream;
  #queue: Waiting[] = [];
  #flushing = false;

  constructor(stream: Stream, events: LaneEvents) {
    this.#stream = stream;
    const reader = new FrameReader(events);
    let malformed: Error | undefined;
    // The event, and not the stream's iterator: that one buffers without a bound, and costs a turn per message.
    stream.addEventListener('message', (event: StreamMessageEvent) => {
      if (malformed) return;
      try {
        const { data } = event;
        for (const part of data instanceof Uint8Array ? [data] : data) reader.push(part);
        events.onProgress(data.byteLength);
      } catch (error) {
        malformed = error instanceof MalformedFrame ? error : new MalformedFrame(String(error));
        stream.abort(malformed);
      }
    });
    stream.addEventListener('close', () => events.onClose(malformed), { once: true });
    stream.addEventListener('remoteCloseWrite', () => stream.abort(new Error('the peer closed its lane')), {
      once: true,
    });
  }

  async send(frame: Frame, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    const sent = Promise.withResolvers<void>();
    this.#queue.push({ frame, sent });
    if (!this.#flushing) {
      this.#flushing = true;
      setImmediate(() => void this.#flush(signal));
    }
    await sent.promise;
  }

  close(reason: Error = new Error('lane closed')): void {
    this.#stream.abort(reason);
  }

  /** Hands over what came together in this turn of the event loop, and then what came while the stream was full. */
  async #flush(signal: AbortSignal): Promise<void> {
    let batch: Waiting[] = [];
    try {
      while (this.#queue.length > 0) {
        batch = this.#queue;
        this.#queue = [];
        const more = this.#stream.send(encodeFrames(batch.map(({ frame }) => frame)));
        for (const { sent } of batch) sent.resolve();
        if (!more) await this.#stream.onDrain({ signal });
      }
    } catch (error) {
      this.#stream.abort(error as Error);
      for (const { sent } of [...batch, ...this.#queue]) sent.reject(error);
    } finally {
      this.#flushing = false;
    }
  }
}
