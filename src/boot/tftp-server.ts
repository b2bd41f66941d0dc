import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { Log } from '../observe/log.ts';
import { decodeTftp, encodeTftp, TftpFormatError, type TftpPacket, tftpError } from './tftp-packet.ts';
import { negotiate, TftpTransfer, type TransferStep } from './tftp-transfer.ts';

/** The bytes of a published name, or undefined. There is no directory behind it, so nothing else can be reached. */
export type PublishedFiles = (name: string) => Uint8Array | undefined;

/** A transfer that came to its end. */
export interface TftpEvent {
  /** The client's address. */
  readonly client: string;
  readonly file: string;
  readonly result: 'done' | 'failed' | 'refused';
  readonly bytes: number;
  readonly reason?: string;
}

export interface TftpDeps {
  readonly log: Log;
  readonly files: PublishedFiles;
  readonly onTransfer: (event: TftpEvent) => void;
}

export interface TftpOptions {
  /** The interface's address: replies come from the address that was contacted. */
  readonly address: string;
  /** @default 69 */
  readonly port?: number;
  /** Transfers at a time, of all clients and of one. @default 128 and 8 */
  readonly maxSessions?: number;
  readonly maxPerClient?: number;
}

export const tftpDefaults = { port: 69, maxSessions: 128, maxPerClient: 8 } as const;
const MAX_NAME = 255;
/** Refusals that are told of in one minute; a flood of them is only counted. */
const MAX_TOLD_REFUSALS = 20;

interface Session {
  readonly client: string;
  readonly file: string;
  readonly transfer: TftpTransfer;
  readonly socket: Socket;
  readonly bytes: number;
  readonly timeoutMs: number;
  timer: NodeJS.Timeout | undefined;
}

/** Read-only TFTP for names that are published; each transfer has a port of its own (RFC 1350 section 4). */
export class TftpServer implements AsyncDisposable {
  readonly #deps: TftpDeps;
  readonly #options: Required<TftpOptions>;
  readonly #socket: Socket;
  /** By client address and port: a repeated request restarts its transfer instead of adding one. */
  readonly #sessions = new Map<string, Session>();
  readonly #refusals = { count: 0, since: 0 };
  #malformed = 0;

  private constructor(deps: TftpDeps, options: Required<TftpOptions>, socket: Socket) {
    this.#deps = deps;
    this.#options = options;
    this.#socket = socket;
  }

  /** @throws the socket's error: EACCES without CAP_NET_BIND_SERVICE, EADDRINUSE when the port is taken */
  static async open(deps: TftpDeps, options: TftpOptions): Promise<TftpServer> {
    const all = { ...tftpDefaults, ...options };
    const socket = createSocket('udp4');
    try {
      socket.bind(all.port, all.address);
      await once(socket, 'listening');
    } catch (error) {
      socket.close();
      throw error;
    }
    const server = new TftpServer(deps, all, socket);
    socket.on('message', (bytes, from) => server.#receive(bytes, from));
    socket.on('error', (error) => deps.log.warn('tftp socket failed', { error }));
    return server;
  }

  get sessions(): number {
    return this.#sessions.size;
  }

  /** Messages dropped because they were no TFTP. */
  get malformed(): number {
    return this.#malformed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const [id, session] of this.#sessions) this.#close(id, session);
    this.#socket.removeAllListeners('message');
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()));
  }

  #receive(bytes: Uint8Array, from: RemoteInfo): void {
    const packet = this.#decode(bytes);
    // Only requests are answered: an ERROR to anything else could make two servers talk for ever.
    if (packet?.kind === 'write') this.#refuse(from, packet.file, tftpError.access, 'this server is read-only');
    if (packet?.kind !== 'read') return;
    const { file, mode, options } = packet;
    if (mode !== 'octet') {
      this.#refuse(from, file, tftpError.illegal, 'only octet transfers are served');
      return;
    }
    const bytesOfFile = file.length > MAX_NAME ? undefined : this.#deps.files(file.replace(/^\//, ''));
    if (bytesOfFile === undefined) this.#refuse(from, file, tftpError.notFound, 'no file of this name is published');
    else this.#open(from, file, bytesOfFile, options);
  }

  #decode(bytes: Uint8Array): TftpPacket | undefined {
    try {
      return decodeTftp(bytes);
    } catch (error) {
      if (!(error instanceof TftpFormatError)) throw error;
      this.#malformed += 1;
      return undefined;
    }
  }

  #open(from: RemoteInfo, file: string, bytes: Uint8Array, asked: ReadonlyMap<string, string>): void {
    const id = `${from.address} ${from.port}`;
    const before = this.#sessions.get(id);
    if (before !== undefined) this.#close(id, before);
    if (!this.#makeRoom(from.address)) {
      this.#refuse(from, file, tftpError.undefined, 'too many transfers, try again');
      return;
    }
    const options = negotiate(asked, bytes.length);
    const session: Session = {
      file,
      client: from.address,
      transfer: new TftpTransfer(bytes, options),
      socket: createSocket('udp4'),
      bytes: bytes.length,
      timeoutMs: options.timeoutMs,
      timer: undefined,
    };
    this.#sessions.set(id, session);
    session.socket.on('error', (error) => this.#end(id, session, { kind: 'failed', reason: error.message }));
    session.socket.on('message', (reply, sender) => this.#hear(id, session, from, reply, sender));
    session.socket.bind(0, this.#options.address, () => this.#act(id, session, from, session.transfer.start()));
  }

  /** A full table drops transfers that no client has answered yet first: those may be forged. */
  #makeRoom(client: string): boolean {
    const { maxSessions, maxPerClient } = this.#options;
    const own = [...this.#sessions].filter(([, session]) => session.client === client);
    const crowded = own.length >= maxPerClient ? own : this.#sessions.size >= maxSessions ? [...this.#sessions] : [];
    if (crowded.length === 0) return true;
    const idle = crowded.find(([, session]) => !session.transfer.answered);
    if (idle === undefined) return false;
    this.#close(...idle);
    return true;
  }

  #hear(id: string, session: Session, client: RemoteInfo, reply: Uint8Array, sender: RemoteInfo): void {
    if (sender.address !== client.address || sender.port !== client.port) {
      // RFC 1350 section 4: a stranger is told, and disturbs nothing.
      const message = { kind: 'error', code: tftpError.unknownTransfer, message: 'unknown transfer' } as const;
      session.socket.send(encodeTftp(message), sender.port, sender.address, () => {});
      return;
    }
    const packet = this.#decode(reply);
    if (packet !== undefined) this.#act(id, session, client, session.transfer.receive(packet));
  }

  #act(id: string, session: Session, client: RemoteInfo, step: TransferStep): void {
    if (this.#sessions.get(id) !== session || step.kind === 'ignore') return;
    if (step.kind !== 'send') {
      this.#end(id, session, step);
      return;
    }
    for (const packet of step.packets) session.socket.send(packet, client.port, client.address, () => {});
    clearTimeout(session.timer);
    session.timer = setTimeout(() => this.#act(id, session, client, session.transfer.timeout()), session.timeoutMs);
  }

  #end(id: string, session: Session, step: Extract<TransferStep, { kind: 'done' | 'failed' }>): void {
    this.#close(id, session);
    const { client, file, bytes } = session;
    // Firmware asks for the size, says ERROR, and comes back for the file: that is no failure worth a warning.
    if (step.kind === 'done') this.#deps.onTransfer({ client, file, bytes, result: 'done' });
    else this.#deps.onTransfer({ client, file, bytes, result: 'failed', reason: step.reason });
  }

  #close(id: string, session: Session): void {
    if (this.#sessions.get(id) !== session) return;
    this.#sessions.delete(id);
    clearTimeout(session.timer);
    session.socket.close();
  }

  #refuse(from: RemoteInfo, file: string, code: number, message: string): void {
    this.#socket.send(encodeTftp({ kind: 'error', code, message }), from.port, from.address, () => {});
    const now = performance.now();
    if (now - this.#refusals.since > 60_000) Object.assign(this.#refusals, { count: 0, since: now });
    this.#refusals.count += 1;
    if (this.#refusals.count > MAX_TOLD_REFUSALS) return;
    const name = file.slice(0, MAX_NAME);
    this.#deps.onTransfer({ client: from.address, file: name, bytes: 0, result: 'refused', reason: message });
  }
}
