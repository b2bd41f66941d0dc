import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { adminSocket } from './admin-route.ts';
import {
  type OperationCode,
  OperationError,
  type OperationInput,
  type OperationName,
  type OperationOptions,
  type OperationResult,
  type Operations,
  operationCodes,
  type Progress,
  type ReadOptions,
} from './operations.ts';

/** Bytes of one line of an answer; a status of a large fleet is far below. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;

/**
 * The operations of the agent that runs on `data`, or undefined when none does.
 * @throws {OperationError} REFUSED when its socket is another user's.
 */
export async function connectAdmin(data: string): Promise<AdminClient | undefined> {
  const path = adminSocket(data);
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return new AdminClient(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') return undefined;
    const message = `the agent's socket ${path} belongs to another user: run this as that user, or with sudo`;
    throw new OperationError('REFUSED', message, { cause: error });
  } finally {
    socket.destroy();
  }
}

/** Asks the running agent. One connection for each operation; hanging up ends it. */
export class AdminClient implements Operations {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  publish = this.#asking('publish');
  status = this.#asking('status');
  peers = this.#asking('peers');
  ls = this.#asking('ls');
  pin = this.#asking('pin');
  unpin = this.#asking('unpin');
  gc = this.#asking('gc');
  verify = this.#asking('verify');
  limit = this.#asking('limit');
  invite = this.#asking('invite');
  pending = this.#asking('pending');
  approve = this.#asking('approve');
  members = this.#asking('members');
  overlay = this.#asking('overlay');
  overlayExport = this.#asking('overlayExport');
  courierImport = this.#asking('courierImport');
  ping = this.#asking('ping');
  revoke = this.#asking('revoke');
  renew = this.#asking('renew');

  async get(input: OperationInput<'get'>, options: ReadOptions): Promise<OperationResult<'get'>> {
    return await this.#ask('get', input, options, options.write);
  }

  async courierExport(input: OperationInput<'courierExport'>, options: ReadOptions) {
    return await this.#ask('courierExport', input, options, options.write);
  }

  #asking<N extends OperationName>(name: N) {
    return (input: OperationInput<N>, options: OperationOptions): Promise<OperationResult<N>> =>
      this.#ask(name, input, options, async () => {});
  }

  async #ask<N extends OperationName>(
    name: N,
    input: OperationInput<N>,
    { signal, onProgress }: OperationOptions,
    write: (bytes: Uint8Array) => Promise<void>,
  ): Promise<OperationResult<N>> {
    try {
      const answer = await this.#post(name, input, signal);
      if (answer.statusCode !== 200) throw await refusalOf(answer);
      for await (const frame of frames(answer)) {
        if (frame instanceof Uint8Array) await write(frame);
        else if (frame.progress !== undefined) onProgress?.(frame.progress);
        else if (frame.error !== undefined) throw errorOf(frame.error);
        else return frame.result as OperationResult<N>;
      }
      throw new OperationError('UNREACHABLE', 'the agent stopped before it had answered: see its log, and ask again');
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof OperationError || !isBroken(error)) throw error;
      const message = `the connection to the agent at ${this.#path} broke (${error.code}): see its log, and ask again`;
      throw new OperationError('UNREACHABLE', message, { cause: error });
    }
  }

  async #post(name: string, input: unknown, signal: AbortSignal): Promise<IncomingMessage> {
    const asked = request({
      socketPath: this.#path,
      method: 'POST',
      path: `/operations/${name}`,
      agent: false,
      signal,
    });
    // After an abort the request fails once more, when nobody listens for it any longer.
    asked.on('error', () => {});
    asked.end(JSON.stringify(input));
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    return answer;
  }
}

interface Frame {
  readonly progress?: Progress;
  readonly error?: { readonly code: string; readonly message: string };
  readonly result?: unknown;
}

/** Lines as objects, and the raw bytes that follow a `{"bytes":N}` in pieces as they come. */
async function* frames(answer: AsyncIterable<Buffer>): AsyncGenerator<Frame | Uint8Array> {
  let raw = 0;
  let rest: Buffer = Buffer.alloc(0);
  for await (const piece of answer) {
    let data = rest.length > 0 ? Buffer.concat([rest, piece]) : piece;
    while (data.length > 0) {
      if (raw > 0) {
        const bytes = data.subarray(0, raw);
        raw -= bytes.length;
        data = data.subarray(bytes.length);
        yield bytes;
        continue;
      }
      const end = data.indexOf(0x0a);
      if (end < 0) break;
      const line = JSON.parse(data.toString('utf8', 0, end));
      data = data.subarray(end + 1);
      if (typeof line.bytes === 'number') raw = line.bytes;
      else yield line;
    }
    rest = data;
    if (rest.length > MAX_LINE_BYTES) throw new OperationError('FAILED', 'the agent sent a line without an end');
  }
}

async function refusalOf(answer: IncomingMessage): Promise<OperationError> {
  const text = Buffer.concat(await answer.toArray()).toString('utf8');
  const { detail = text } = JSON.parse(text) as { detail?: string };
  return new OperationError(answer.statusCode === 400 ? 'USAGE' : 'FAILED', detail);
}

function errorOf({ code, message }: { readonly code: string; readonly message: string }): OperationError {
  const known = operationCodes.find((each): each is OperationCode => each === code);
  return new OperationError(known ?? 'FAILED', message);
}

function isBroken(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && typeof error.code === 'string';
}
