import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { Log } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import { ConnectionLimit, clientOf } from './connection-limit.ts';
import { type Bound, type ListenAddress, listen } from './listen-address.ts';
import { RETRY_SECONDS, Refusal, sendRefusal } from './refusal.ts';
import { type Route, type RouteContext, Router } from './router.ts';

export interface GatewayDeps {
  /** First that fits is taken. */
  readonly routes: readonly Route[];
  readonly log: Log;
  readonly metrics: Metrics;
}

export interface GatewayOptions {
  readonly listen: readonly ListenAddress[];
  /** Bytes of a request line and its headers. @default 8192 */
  readonly maxHeaderBytes?: number;
  /** Milliseconds in which all headers must have come. @default 10000 */
  readonly headersMs?: number;
  /** Milliseconds in which the whole request must have come. @default 30000 */
  readonly requestMs?: number;
  /** Milliseconds that an idle connection is kept. @default 10000 */
  readonly keepAliveMs?: number;
  /** Connections from one address. @default 64 */
  readonly connectionsPerClient?: number;
  /** Connections from all addresses together. @default 1024 */
  readonly connections?: number;
  /** Milliseconds that transfers may take to end when the gateway closes. @default 2000 */
  readonly closeMs?: number;
}

export const GATEWAY_DEFAULTS = {
  maxHeaderBytes: 8192,
  headersMs: 10_000,
  requestMs: 30_000,
  keepAliveMs: 10_000,
  connectionsPerClient: 64,
  connections: 1024,
  closeMs: 2_000,
} as const;

/** Requests of one connection that wait for their turn (RFC 9112 9.3.2, pipelining); more end the connection. */
const MAX_PIPELINED = 16;
const MAX_HEADERS = 64;

/** HTTP for whoever can reach its addresses: what the routes say, and nothing else. */
export class Gateway implements AsyncDisposable {
  readonly #deps: GatewayDeps & { readonly router: Router };
  readonly #options: Required<GatewayOptions>;
  readonly #limit: ConnectionLimit;
  readonly #log: Log;
  readonly #requests;
  readonly #connections;
  readonly #servers: { readonly server: Server; readonly bound: Bound }[] = [];
  readonly #active = new Set<AbortController>();
  readonly #turns = new WeakMap<Socket, { last: Promise<void>; waiting: number }>();
  #closed: Promise<void> | undefined;

  private constructor(deps: GatewayDeps, options: GatewayOptions) {
    this.#deps = { ...deps, router: new Router(deps.routes) };
    this.#options = { ...GATEWAY_DEFAULTS, ...options };
    this.#limit = new ConnectionLimit({
      perClient: this.#options.connectionsPerClient,
      total: this.#options.connections,
    });
    this.#log = deps.log.with({ room: 'gateway' });
    this.#requests = deps.metrics.counter('gateway_requests_total', 'Answered requests', ['route', 'status']);
    this.#connections = deps.metrics.gauge('gateway_connections', 'Open connections');
  }

  /** Listens on every address, or on none and rejects with `ListenError`. */
  static async open(deps: GatewayDeps, options: GatewayOptions): Promise<Gateway> {
    const gateway = new Gateway(deps, options);
    try {
      for (const address of options.listen) {
        const server = gateway.#createServer();
        gateway.#servers.push({ server, bound: await listen(server, address) });
      }
    } catch (error) {
      await gateway.close();
      throw error;
    }
    gateway.#log.info('listening', { addresses: gateway.addresses });
    return gateway;
  }

  /** `http://…:PORT` of every address, with the port it got; the path of a unix socket. */
  get addresses(): readonly string[] {
    return this.#servers.map(({ bound }) => bound.url);
  }

  /** TCP ports, in the order of the addresses. */
  get ports(): readonly number[] {
    return this.#servers.flatMap(({ bound }) => bound.port ?? []);
  }

  /** Takes no new request, gives transfers `closeMs` to end, then cuts them. */
  async close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const ended = this.#servers.map(
      ({ server }) => new Promise<void>((resolve) => void server.close(() => resolve()).closeIdleConnections()),
    );
    const cut = setTimeout(() => {
      for (const request of this.#active) request.abort(new Error('the gateway closes'));
      this.#limit.destroyAll();
    }, this.#options.closeMs);
    await Promise.all(ended);
    clearTimeout(cut);
    await Promise.all(this.#servers.map(({ bound }) => bound.remove()));
  }

  #createServer(): Server {
    const server = createServer(
      {
        maxHeaderSize: this.#options.maxHeaderBytes,
        headersTimeout: this.#options.headersMs,
        requestTimeout: this.#options.requestMs,
        keepAliveTimeout: this.#options.keepAliveMs,
        connectionsCheckingInterval: Math.min(1_000, this.#options.headersMs),
        noDelay: true,
        insecureHTTPParser: false,
      },
      (request, response) => this.#enqueue(request, response),
    );
    server.maxHeadersCount = MAX_HEADERS;
    server.on('connection', (socket: Socket) => this.#admit(socket));
    server.on('error', (error) => this.#log.warn('listener failed', { error }));
    server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => this.#refuseBytes(error, socket));
    return server;
  }

  #admit(socket: Socket): void {
    const client = clientOf(socket);
    if (!this.#limit.admit(socket, client)) {
      this.#requests.inc({ route: 'none', status: '503' });
      const retry = { 'Retry-After': String(RETRY_SECONDS) };
      endRaw(socket, new Refusal(503, 'busy', 'too many connections; close some or try a neighbour', retry));
      return;
    }
    this.#connections.inc();
    socket.once('close', () => this.#connections.dec());
  }

  /** What is no HTTP. In the middle of an answer nothing can be said: it would pass for bytes of the answer. */
  #refuseBytes(error: NodeJS.ErrnoException, socket: Socket): void {
    if (error.code === 'ECONNRESET' || !socket.writable || this.#turns.get(socket)?.waiting) {
      socket.destroy();
      return;
    }
    const refusal = refusalOf(error);
    this.#requests.inc({ route: 'none', status: String(refusal.status) });
    endRaw(socket, refusal);
  }

  /** One request of a connection at a time: a pipelining client gets no more of our memory than another. */
  #enqueue(request: IncomingMessage, response: ServerResponse): void {
    // Node takes the socket away from a request that was destroyed.
    const { socket } = request;
    const turn = this.#turns.get(socket) ?? { last: Promise.resolve(), waiting: 0 };
    this.#turns.set(socket, turn);
    turn.waiting += 1;
    if (turn.waiting > MAX_PIPELINED) {
      socket.destroy();
      return;
    }
    turn.last = turn.last
      .then(() => this.#answer(request, response, socket))
      .catch((error: unknown) => {
        this.#log.error('answer failed', { error });
        socket.destroy();
      })
      .finally(() => {
        turn.waiting -= 1;
      });
  }

  async #answer(request: IncomingMessage, response: ServerResponse, socket: Socket): Promise<void> {
    if (socket.destroyed) return;
    const ended = Promise.withResolvers<void>();
    const gone = new AbortController();
    this.#active.add(gone);
    response.once('error', () => {});
    response.once('close', () => {
      this.#active.delete(gone);
      if (!response.writableFinished) gone.abort(new Error('the client has gone'));
      ended.resolve();
    });
    const name = await this.#route(request, response, { signal: gone.signal, client: clientOf(socket) });
    if (!response.writableEnded) response.destroy();
    await ended.promise;
    this.#requests.inc({ route: name, status: String(response.statusCode) });
  }

  /** The route's path, which is what the request is counted under. */
  async #route(request: IncomingMessage, response: ServerResponse, who: Client): Promise<string> {
    let name = 'none';
    try {
      const { route, params } = this.#deps.router.match(request.method ?? '', request.url ?? '');
      name = route.path;
      if (route.method !== 'POST') refuseBody(request);
      await route.handle(request, response, { params, ...who });
      if (!response.headersSent) throw new Error(`the route ${name} gave no answer`);
    } catch (error) {
      this.#fail(request, response, who, error);
    }
    return name;
  }

  #fail(request: IncomingMessage, response: ServerResponse, { signal, client }: Client, error: unknown): void {
    if (signal.aborted) return;
    const where = { method: request.method, target: request.url?.slice(0, 200), client };
    if (!(error instanceof Refusal)) this.#log.warn('request failed', { ...where, error });
    // Cutting the connection is the only way to say that what has been sent is not whole.
    if (response.headersSent) return void response.destroy();
    const unknown = new Refusal(500, 'failed', 'the node could not do this; see its log');
    const refusal = error instanceof Refusal ? error : unknown;
    this.#log.debug('request refused', { ...where, status: refusal.status, error: refusal.code });
    sendRefusal(response, refusal);
  }
}

type Client = Pick<RouteContext, 'signal' | 'client'>;

function refuseBody(request: IncomingMessage): void {
  const { 'content-length': length = '0', 'transfer-encoding': encoding } = request.headers;
  if (Number(length) === 0 && encoding === undefined) return;
  throw new Refusal(400, 'unexpected_body', 'a read takes no body', { Connection: 'close' });
}

function refusalOf(error: NodeJS.ErrnoException): Refusal {
  if (error.code === 'HPE_HEADER_OVERFLOW') return new Refusal(431, 'headers_too_large', 'the headers are too large');
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') return new Refusal(408, 'too_slow', 'the request took too long');
  return new Refusal(400, 'bad_request', 'this is no HTTP/1.1 request');
}

/** An answer on a socket that has no request, which then closes; whatever still comes in is not read. */
function endRaw(socket: Socket, refusal: Refusal): void {
  const body = `${JSON.stringify({ error: refusal.code, detail: refusal.message })}\n`;
  const headers = { 'Content-Type': 'application/json', 'Content-Length': String(body.length), ...refusal.headers };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.on('error', () => {});
  socket.end(
    `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}\r\n${lines.join('')}Connection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}
