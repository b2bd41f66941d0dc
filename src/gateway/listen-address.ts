import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, rename, rm } from 'node:fs/promises';
import type { Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { dirname, join } from 'node:path';

/** `192.0.2.1:8080`, `[2001:db8::1]:8080`, `[::]:0`; or a unix socket that only its owner can reach. */
export type ListenAddress = string | { readonly socket: string };

/** Where a gateway was told to listen cannot be had. */
export class ListenError extends Error {
  readonly code = 'LISTEN';

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ListenError';
  }
}

/** What a bound server answers at: `http://127.0.0.1:8080`, or a socket's path. */
export interface Bound {
  readonly url: string;
  /** Undefined for a unix socket. */
  readonly port: number | undefined;
  /** Takes the socket's file away. */
  remove(): Promise<void>;
}

/** Longest path that `sockaddr_un` holds. */
const MAX_SOCKET_PATH = 107;

/** @throws {ListenError} when the address is taken, not this machine's, or not allowed. */
export async function listen(server: Server, address: ListenAddress): Promise<Bound> {
  return typeof address === 'string' ? await listenTcp(server, address) : await listenUnix(server, address.socket);
}

async function listenTcp(server: Server, address: string): Promise<Bound> {
  const [, six, four, port] = /^(?:\[([0-9a-f:.%a-z]+)\]|([0-9.]+)):(\d{1,5})$/i.exec(address) ?? [];
  const host = six ?? four;
  if (host === undefined || Number(port) > 65_535) {
    throw new ListenError(`'${address}' is no address: write ADDRESS:PORT, such as 0.0.0.0:8080 or [::]:8080`);
  }
  // Dual-stack sockets would collide with 0.0.0.0 on the same port, and give IPv4 clients two spellings.
  await bind(server, { host, port: Number(port), ipv6Only: six !== undefined }, address);
  const bound = (server.address() as AddressInfo).port;
  return { url: `http://${six === undefined ? host : `[${six}]`}:${bound}`, port: bound, remove: async () => {} };
}

/**
 * The socket appears at `path` with mode 0600 already set: it is made in a directory that no one else can enter, and
 * renamed. A socket file that a dead process left is replaced, one that answers is not.
 */
async function listenUnix(server: Server, path: string): Promise<Bound> {
  const made = join(dirname(path), `.${randomBytes(4).toString('hex')}`);
  const socket = join(made, 's');
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH || Buffer.byteLength(socket) > MAX_SOCKET_PATH) {
    throw new ListenError(`${path} is too long for a unix socket: choose a directory of at most 90 bytes`);
  }
  if (await answers(path)) throw new ListenError(`${path} is in use: another agent is running on this directory`);
  await mkdir(made, { mode: 0o700 });
  try {
    await bind(server, { path: socket }, path);
    await chmod(socket, 0o600);
    await rename(socket, path);
  } finally {
    await rm(made, { recursive: true, force: true });
  }
  return { url: path, port: undefined, remove: () => rm(path, { force: true }) };
}

async function bind(
  server: Server,
  where: { host: string; port: number; ipv6Only: boolean } | { path: string },
  name: string,
): Promise<void> {
  server.listen({ ...where, backlog: 511 });
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw new ListenError(`cannot listen on ${name}: ${(cause as Error).message}`, { cause });
  }
}

async function answers(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
