import type { Socket } from 'node:net';

export interface ConnectionLimitOptions {
  /** Connections from one address. A booting machine opens one or two. */
  readonly perClient: number;
  /** Connections from all addresses together. */
  readonly total: number;
}

/** Counts open connections, so that one client cannot take all of them. */
export class ConnectionLimit {
  readonly #options: ConnectionLimitOptions;
  readonly #clients = new Map<string, number>();
  readonly #sockets = new Set<Socket>();

  constructor(options: ConnectionLimitOptions) {
    this.#options = options;
  }

  /** Counts `socket` until it closes; false, and nothing counted, when that would be one too many. */
  admit(socket: Socket, client: string): boolean {
    const own = this.#clients.get(client) ?? 0;
    if (own >= this.#options.perClient || this.#sockets.size >= this.#options.total) return false;
    this.#clients.set(client, own + 1);
    this.#sockets.add(socket);
    socket.once('close', () => this.#release(socket, client));
    return true;
  }

  /** Cuts every connection that was admitted. */
  destroyAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #release(socket: Socket, client: string): void {
    this.#sockets.delete(socket);
    const own = (this.#clients.get(client) ?? 1) - 1;
    if (own === 0) this.#clients.delete(client);
    else this.#clients.set(client, own);
  }
}

/** The other end's address without port, IPv4 in its own form; `local` for a unix socket. */
export function clientOf(socket: Socket): string {
  return socket.remoteAddress?.replace(/^::ffff:(?=\d+\.)/, '') ?? 'local';
}
