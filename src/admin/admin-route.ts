import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { Gateway } from '../gateway/gateway.ts';
import { notFound, Refusal } from '../gateway/refusal.ts';
import type { Route } from '../gateway/router.ts';
import type { Log } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import {
  type OperationName,
  type Operations,
  operationErrorOf,
  operationInputs,
  type Progress,
  type ReadOptions,
} from './operations.ts';

/** The agent's control socket in its data directory. */
export function adminSocket(data: string): string {
  return join(data, 'agent.sock');
}

interface Deps {
  readonly operations: Operations;
  readonly log: Log;
  readonly metrics: Metrics;
}

/**
 * Offers `operations` on the control socket: mode 0600, so only the agent's own user and root reach it. Rejects with
 * `ListenError` when another agent answers there.
 */
export async function serveAdmin({ operations, log, metrics }: Deps, data: string): Promise<Gateway> {
  return await Gateway.open(
    { routes: [adminRoute(operations)], log, metrics },
    { listen: [{ socket: adminSocket(data) }], closeMs: CLOSE_MS },
  );
}

const MAX_INPUT_BYTES = 64 * 1024;
/** Bytes of one frame of an artifact. */
const FRAME_BYTES = 1024 * 1024;
const PROGRESS_MS = 250;
/** The last word of an operation that the closing agent has ended itself. */
const CLOSE_MS = 500;

/**
 * `POST /operations/<name>` with the input as JSON. The answer is a sequence of lines, each one JSON object:
 * `{"progress":…}` as often as it changes, `{"bytes":N}` followed by N raw bytes, and last `{"result":…}` or
 * `{"error":{"code":…,"message":…}}`. A client that hangs up ends its operation.
 */
export function adminRoute(operations: Operations): Route {
  return {
    method: 'POST',
    path: '/operations/:name',
    handle: async (request, response, { params, signal }) => {
      const name = operationName(params['name'] ?? '');
      const input = checkedInput(name, await readBody(request));
      response.writeHead(200, { 'Content-Type': 'application/x-ndjson', 'Cache-Control': 'no-store' });
      const answer = new Answer(response, signal);
      const options: ReadOptions = { signal, onProgress: answer.progress, write: answer.bytes };
      const outcome = await run(operations, name, input, options).then(
        (result) => ({ result }),
        (error: unknown) => ({ error: operationErrorOf(error) }),
      );
      if (signal.aborted) return;
      const last =
        'error' in outcome ? { error: { code: outcome.error.code, message: outcome.error.message } } : outcome;
      response.end(`${JSON.stringify(last)}\n`);
    },
  };
}

/** The operation's input has been checked by its own schema, which TypeScript cannot follow through the name. */
async function run(operations: Operations, name: OperationName, input: unknown, options: ReadOptions) {
  const operation = operations[name] as (input: unknown, options: ReadOptions) => Promise<unknown>;
  return await operation.call(operations, input, options);
}

function operationName(text: string): OperationName {
  if (Object.hasOwn(operationInputs, text)) return text as OperationName;
  throw notFound(`there is no operation ${text}; the agent and the command are of different versions`);
}

function checkedInput(name: OperationName, text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Refusal(400, 'bad_input', 'the input is no JSON');
  }
  const parsed = operationInputs[name].safeParse(value);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'input'}: ${issue.message}`);
  throw new Refusal(400, 'bad_input', faults.join('; '));
}

async function readBody(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > MAX_INPUT_BYTES)
      throw new Refusal(413, 'too_large', `an input has at most ${MAX_INPUT_BYTES} bytes`, {
        Connection: 'close',
      });
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

/** The lines of one answer. */
class Answer {
  readonly #response: ServerResponse;
  readonly #signal: AbortSignal;
  #told = { at: Number.NEGATIVE_INFINITY, phase: '' };

  constructor(response: ServerResponse, signal: AbortSignal) {
    this.#response = response;
    this.#signal = signal;
  }

  /** Sends what changed at most four times a second, and nothing to a client that does not read. */
  progress = (progress: Progress): void => {
    const now = performance.now();
    const due = progress.phase !== this.#told.phase || progress.bytes === progress.total;
    if (this.#response.writableNeedDrain || (!due && now - this.#told.at < PROGRESS_MS)) return;
    this.#told = { at: now, phase: progress.phase };
    this.#response.write(`${JSON.stringify({ progress })}\n`);
  };

  bytes = async (bytes: Uint8Array): Promise<void> => {
    for (let start = 0; start < bytes.length; start += FRAME_BYTES) {
      this.#signal.throwIfAborted();
      const frame = bytes.subarray(start, start + FRAME_BYTES);
      this.#response.write(`{"bytes":${frame.length}}\n`);
      if (!this.#response.write(frame)) await once(this.#response, 'drain', { signal: this.#signal });
    }
  };
}
