import { createServer, type Server, type Socket } from 'node:net';
import type { Log } from '../observe/log.ts';
import { answer, GREETING_BYTES, PROOF_BYTES, readGreeting, same, TLS_HANDSHAKE } from './greeting.ts';
import type { FastKind } from './lane.ts';
import { type IssuedTicket, type Ticket, Tickets } from './ticket.ts';
import { acceptTls } from './tls.ts';

export interface LanePortOptions {
  /** IP addresses to listen on. */
  readonly hosts: readonly string[];
  /** 0: any that is free. */
  readonly port: number;
  /** A stranger has this long to prove a ticket, milliseconds. @default 5000 */
  readonly proveMs?: number;
  /** Connections that have proved nothing yet; the oldest makes room for another. @default 64 */
  readonly maxStrangers?: number;
}

/** Seconds of silence after which the kernel asks whether the other end is still there. */
const KEEPALIVE_MS = 15_000;

/** Where peers open fast lanes to us. Nobody gets further than a few bytes without a ticket of ours. */
export class LanePort implements AsyncDisposable {
  readonly #tickets = new Tickets();
  readonly #servers: Server[] = [];
  readonly #strangers = new Set<Socket>();
  readonly #options: Required<LanePortOptions>;
  #port = 0;

  private constructor(options: LanePortOptions) {
    this.#options = { proveMs: 5_000, maxStrangers: 64, ...options };
  }

  /** Rejects with the system's error when the port cannot be had on any of the addresses. */
  static async open({ log }: { readonly log: Log }, options: LanePortOptions): Promise<LanePort> {
    const lanes = new LanePort(options);
    lanes.#port = options.port;
    const failures: unknown[] = [];
    for (const host of options.hosts) {
      try {
        await lanes.#listen(host);
      } catch (error) {
        // A kernel without IPv6, for one.
        failures.push(error);
      }
    }
    if (lanes.#servers.length === 0) throw failures[0] ?? new RangeError('no address to listen on');
    log.debug('lane port open', { port: lanes.#port });
    return lanes;
  }

  /** The one that is told to peers. */
  get port(): number {
    return this.#port;
  }

  /** Lets `peerId` open one lane; `use` gets the connection once it is proven. Undefined when too many may already. */
  issue(
    peerId: string,
    about: { readonly kind: FastKind; readonly diallerSends: boolean },
    use: (socket: Socket) => void,
  ): Ticket | undefined {
    return this.#tickets.issue(peerId, { ...about, port: this.#port }, use);
  }

  revoke(peerId: string): void {
    this.#tickets.revoke(peerId);
  }

  /** Proven connections belong to their links; those have to be closed before. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#strangers) socket.destroy();
    await Promise.all(this.#servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }

  async #listen(host: string): Promise<void> {
    const server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MS }, (socket) =>
      this.#greet(socket),
    );
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port: this.#port, ipv6Only: true }, resolve);
    });
    server.on('error', () => undefined);
    this.#servers.push(server);
    const address = server.address();
    if (this.#port === 0 && address !== null && typeof address === 'object') this.#port = address.port;
  }

  #greet(socket: Socket): void {
    const [oldest] = this.#strangers;
    if (this.#strangers.size >= this.#options.maxStrangers) oldest?.destroy();
    this.#strangers.add(socket);
    const timer = setTimeout(() => socket.destroy(), this.#options.proveMs);
    const known = () => {
      clearTimeout(timer);
      this.#strangers.delete(socket);
    };
    socket.on('error', () => undefined);
    socket.once('close', known);
    const read = () => {
      const [first] = (socket.read(1) as Uint8Array | null) ?? [];
      if (first === undefined) return;
      socket.off('readable', read);
      socket.unshift(Uint8Array.of(first));
      const proving = first === TLS_HANDSHAKE ? this.#secure(socket) : this.#prove(socket);
      proving.then(
        ({ lane, ticket }) => {
          known();
          ticket.use(lane);
        },
        () => socket.destroy(),
      );
    };
    socket.on('readable', read);
  }

  async #secure(socket: Socket): Promise<{ lane: Socket; ticket: IssuedTicket }> {
    const { secured, ticket } = await acceptTls(socket, (id) => this.#tickets.take(id, 'tls'));
    return { lane: secured, ticket };
  }

  async #prove(socket: Socket): Promise<{ lane: Socket; ticket: IssuedTicket }> {
    const greeting = readGreeting(await exactly(socket, GREETING_BYTES));
    const ticket = greeting && this.#tickets.take(greeting.id, 'plain');
    if (greeting === undefined || ticket === undefined) throw new Error('no ticket');
    const { bytes, expected } = answer(ticket, greeting);
    socket.write(bytes);
    if (!same(await exactly(socket, PROOF_BYTES), expected)) throw new Error('the ticket is not proved');
    return { lane: socket, ticket };
  }
}

/** The next `length` bytes of a paused socket, no more. Rejects when it closes before. */
function exactly(socket: Socket, length: number): Promise<Uint8Array> {
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
  const closed = () => reject(new Error('closed'));
  const read = () => {
    const bytes = socket.read(length) as Uint8Array | null;
    if (bytes === null) return;
    socket.off('readable', read);
    socket.off('close', closed);
    resolve(bytes);
  };
  socket.on('readable', read);
  socket.once('close', closed);
  read();
  return promise;
}
