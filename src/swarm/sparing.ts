import type { StreamMuxerFactory } from '@libp2p/interface';

/** What js-libp2p-yamux has inside. Should that change, nothing is spared and everything else works. */
interface MuxerInside {
  _newStream?: (...args: unknown[]) => StreamInside;
}

interface StreamInside {
  sendWindowUpdate?: () => void;
  /** 3: both sides know of the stream, so that no flag has to travel. */
  readonly state?: number;
  readonly recvWindow?: number;
  /** What the remote may still send. */
  readonly recvWindowCapacity?: number;
}

const ESTABLISHED = 3;

/**
 * A muxer that opens its windows again when half of them is used, as Yamux's specification advises. js-libp2p-yamux
 * answers every data frame with a window update: an encrypted packet back for each small message, which costs both
 * ends as much as the message itself.
 */
export function sparing(inner: () => StreamMuxerFactory): () => StreamMuxerFactory {
  return () => {
    const factory = inner();
    const create = factory.createStreamMuxer.bind(factory);
    factory.createStreamMuxer = (connection) => {
      const muxer = create(connection);
      const inside = muxer as MuxerInside;
      const newStream = inside._newStream?.bind(muxer);
      if (newStream !== undefined) inside._newStream = (...args) => spare(newStream(...args));
      return muxer;
    };
    return factory;
  };
}

function spare(stream: StreamInside): StreamInside {
  const update = stream.sendWindowUpdate?.bind(stream);
  if (update === undefined) return stream;
  stream.sendWindowUpdate = () => {
    const { state, recvWindow = 0, recvWindowCapacity = 0 } = stream;
    if (state !== ESTABLISHED || recvWindowCapacity <= recvWindow / 2) update();
  };
  return stream;
}
