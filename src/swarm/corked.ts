import type { ConnectionProtector, MessageStream } from '@libp2p/interface';
import type { AbstractMessageStream } from '@libp2p/utils';

/** What libp2p's TCP connection has inside. Should that change, nothing is corked and everything else works. */
interface TcpInside {
  readonly socket?: { cork?(): void; uncork?(): void };
  sendData?: AbstractMessageStream['sendData'];
}

/**
 * Lets a TCP connection write what belongs together in one system call. Noise hands over each encrypted message as
 * four buffers (length, Yamux header, bytes, tag) and libp2p writes them one by one, as four packets: without Nagle,
 * a bulk transfer is then mostly tiny segments. libp2p asks a "protector" about every raw connection, in or out; this
 * one adds no protection, only the cork.
 */
export function corked(): ConnectionProtector {
  return {
    protect: async (connection: MessageStream): Promise<MessageStream> => {
      const inside = connection as TcpInside;
      const { socket } = inside;
      const send = inside.sendData?.bind(connection);
      if (send === undefined || socket?.cork === undefined || socket.uncork === undefined) return connection;
      inside.sendData = (data) => {
        socket.cork?.();
        try {
          return send(data);
        } finally {
          socket.uncork?.();
        }
      };
      return connection;
    },
  };
}
