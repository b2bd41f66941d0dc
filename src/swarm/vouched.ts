import type { ConnectionEncrypter, SecureConnectionOptions, SecuredConnection } from '@libp2p/interface';
import { lpStream } from '@libp2p/utils';

/** What the two ends of a connection show each other before either decides whether to talk. */
export interface Vouching {
  /** Shown to whoever is there; empty for nothing. */
  own(): Uint8Array;
  /** The other end has proven its peer id, and showed this, perhaps nothing. Whether we know it now as one of ours. */
  shown(peerId: string, bytes: Uint8Array): boolean;
  /** Shown in place of ours to one that we do not know as one of ours: why, as long as a certificate; empty for nothing. */
  farewell?(peerId: string): Uint8Array;
}

type Encrypter<C> = (components: C) => ConnectionEncrypter;

export const VOUCHED_PROTOCOL = '/bootmesh/noise/1.0.0';
/** What one may show, bytes, and what may have come behind it before it is read. */
const MAX_SHOWN = 1024;
const MAX_BEHIND = 128 * 1024;

/**
 * Encryption after which both ends show a certificate, the one that dialled first, and the other to its like alone: who
 * was admitted while the other was away is known by it at once, without anybody between them, and who knocks at ports
 * learns nothing, but that it was one of ours and is no more. Its own protocol name, so that both ends
 * agree on it; who does not know it is met by plain Noise, and judged by what is known already.
 */
export function vouched<C>(inner: Encrypter<C>, vouching: Vouching): Encrypter<C> {
  return (components) => {
    const encrypter = inner(components);
    const exchange = async (
      direction: 'in' | 'out',
      secured: SecuredConnection,
      options: SecureConnectionOptions | undefined,
    ) => {
      const messages = lpStream(secured.connection, { maxDataLength: MAX_SHOWN, maxBufferSize: MAX_BEHIND });
      if (direction === 'out') await messages.write(vouching.own(), options);
      const shown = (await messages.read(options)).subarray();
      const peerId = secured.remotePeer.toString();
      const known = vouching.shown(peerId, shown);
      const answer = () => (known ? vouching.own() : (vouching.farewell?.(peerId) ?? new Uint8Array()));
      if (direction === 'in') await messages.write(answer(), options);
      messages.unwrap();
      return secured;
    };
    return {
      protocol: VOUCHED_PROTOCOL,
      secureInbound: async (stream, options) => exchange('in', await encrypter.secureInbound(stream, options), options),
      secureOutbound: async (stream, options) =>
        exchange('out', await encrypter.secureOutbound(stream, options), options),
    };
  };
}
