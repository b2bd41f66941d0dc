import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';

/** Where a datagram came in: everyone's :67, our own address's :67 or :4011, or :68, where clients are answered. */
export type DhcpPort = 'broadcast' | 'unicast' | 'pxe' | 'client';

export interface MissingPort {
  readonly port: number;
  /** What the operator has to change. */
  readonly need: string;
}

/**
 * The sockets of a DHCP server on one interface. Node has no SO_BINDTODEVICE: a socket on 0.0.0.0 hears broadcasts of
 * all interfaces, one on the interface's own address sends them out of the right one (the kernel picks the device by
 * the source address).
 */
export class DhcpSockets implements AsyncDisposable {
  /** Ports that could not be had, and why. Without `broadcast` and `unicast` there is no DHCP. */
  readonly missing: readonly MissingPort[];
  readonly #sockets: ReadonlyMap<DhcpPort, Socket>;

  private constructor(sockets: ReadonlyMap<DhcpPort, Socket>, missing: readonly MissingPort[]) {
    this.#sockets = sockets;
    this.missing = missing;
  }

  /** Opens what can be opened; `address` is the interface's. */
  static async open(
    address: string,
    onMessage: (bytes: Uint8Array, port: DhcpPort, from: RemoteInfo) => void,
    onError: (error: Error) => void,
  ): Promise<DhcpSockets> {
    const wanted: readonly (readonly [DhcpPort, string, number])[] = [
      ['broadcast', '0.0.0.0', 67],
      ['unicast', address, 67],
      ['pxe', address, 4011],
      ['client', '0.0.0.0', 68],
    ];
    const sockets = new Map<DhcpPort, Socket>();
    const missing: MissingPort[] = [];
    for (const [name, host, port] of wanted) {
      const socket = createSocket({ type: 'udp4', reuseAddr: true });
      try {
        await listening(socket, port, host);
      } catch (error) {
        socket.close();
        missing.push({ port, need: advice(error as NodeJS.ErrnoException, port) });
        continue;
      }
      socket.setBroadcast(true);
      socket.on('message', (bytes, from) => onMessage(bytes, name, from));
      socket.on('error', onError);
      sockets.set(name, socket);
    }
    return new DhcpSockets(sockets, missing);
  }

  get canServe(): boolean {
    return this.#sockets.has('broadcast') && this.#sockets.has('unicast');
  }

  /** Sends from this node's own address and the named port's number. */
  send(name: 'unicast' | 'pxe', bytes: Uint8Array, port: number, address: string): void {
    this.#sockets.get(name)?.send(bytes, port, address, () => {}); // An unreachable client asks again.
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closing = [...this.#sockets.values()].map((socket) => {
      socket.removeAllListeners('message');
      return new Promise<void>((resolve) => socket.close(() => resolve()));
    });
    await Promise.all(closing);
  }
}

/** `once` rejects on the socket's 'error', which is how bind fails. */
async function listening(socket: Socket, port: number, host: string): Promise<void> {
  socket.bind(port, host);
  await once(socket, 'listening');
}

function advice(error: NodeJS.ErrnoException, port: number): string {
  if (error.code === 'EACCES') return `CAP_NET_BIND_SERVICE to open UDP port ${port}`;
  if (error.code === 'EADDRINUSE') return `UDP port ${port}, which another program on this machine holds`;
  return `UDP port ${port}: ${error.message}`;
}
