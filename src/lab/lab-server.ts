import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { LabNotFound } from './lab-state.ts';

/** What another process may ask of the one that holds a lab up; only it can start what must end with the lab. */
export const LAB_VERBS = ['partition', 'heal', 'power-cycle', 'start', 'stop'] as const;
export type LabVerb = (typeof LAB_VERBS)[number];

const requestSchema = z.strictObject({ verb: z.enum(LAB_VERBS), args: z.array(z.string()).max(2) });
export type LabRequest = z.output<typeof requestSchema>;

/** What came of a power cycle. */
export interface PowerCycle {
  readonly site: string;
  /** Those whose agents ran, and run again. */
  readonly nodes: readonly string[];
  /** From the moment at which they were killed until the last was ready. */
  readonly milliseconds: number;
}

/** A lab, as far as others may act on it. */
export interface LabActs {
  readonly cuts: readonly (readonly string[])[];
  partition(site: string, other?: string): Promise<void>;
  heal(): Promise<void>;
  powerCycle(site: string, options: { readonly signal: AbortSignal }): Promise<PowerCycle>;
  startNode(name: string, options: { readonly signal: AbortSignal }): Promise<void>;
  stopNode(name: string): Promise<unknown>;
  pid(name: string): number | undefined;
}

/** Does what is asked, and answers with what is to be printed as JSON. */
export async function perform(lab: LabActs, { verb, args }: LabRequest, signal: AbortSignal): Promise<object> {
  const [first = '', second] = args;
  switch (verb) {
    case 'partition':
      await lab.partition(first, second);
      return { cuts: lab.cuts };
    case 'heal':
      await lab.heal();
      return { cuts: lab.cuts };
    case 'power-cycle':
      return await lab.powerCycle(first, { signal });
    case 'start':
      await lab.startNode(first, { signal });
      return { node: first, pid: lab.pid(first) };
    case 'stop':
      await lab.stopNode(first);
      return { node: first };
  }
}

interface Options {
  /** The other side went away. */
  readonly signal: AbortSignal;
  readonly onEvent: (event: object) => void;
}

const MAX_REQUEST_BYTES = 64 * 1024;

type Answer = (request: LabRequest, options: Options) => Promise<object>;

/** The lab refused, or failed; `code` is that of the error there. */
export class LabRequestFailed extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = 'LabRequestFailed';
    this.code = code;
  }
}

/**
 * Takes requests on a unix socket: one line of JSON for each connection, answered with lines of `{"event":…}` and at last
 * one of `{"result":…}` or `{"error":{"code":…,"message":…}}`. Who may write to the lab's directory may ask.
 */
export async function serveLab(path: string, answer: Answer): Promise<AsyncDisposable> {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    socket.on('error', () => {}); // `close` follows.
    socket.on('data', () => {
      if (socket.bytesRead > MAX_REQUEST_BYTES) socket.destroy();
    });
    void converse(socket, answer);
  });
  server.listen(path);
  await once(server, 'listening');
  return {
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}

async function converse(socket: Socket, answer: Answer): Promise<void> {
  const gone = new AbortController();
  socket.once('close', () => gone.abort(new DOMException('nobody waits for it', 'AbortError')));
  const say = (line: object) => {
    if (socket.writable) socket.write(`${JSON.stringify(line)}\n`);
  };
  try {
    const [line] = (await once(createInterface(socket), 'line', { signal: gone.signal })) as [string];
    const request = requestSchema.parse(JSON.parse(line));
    say({ result: await answer(request, { signal: gone.signal, onEvent: (event) => say({ event }) }) });
  } catch (error) {
    const { code, message } = error as Error & { code?: unknown };
    say({ error: { code: String(code ?? 'FAILED'), message } });
  }
  socket.end();
}

const answerSchema = z.union([
  z.object({ event: z.record(z.string(), z.unknown()) }),
  z.object({ result: z.record(z.string(), z.unknown()) }),
  z.object({ error: z.object({ code: z.string(), message: z.string() }) }),
]);

/** Asks the process behind the socket. Rejects with `LabRequestFailed`, and with `LabNotFound` when there is none. */
export async function askLab(
  path: string,
  request: LabRequest,
  { signal, onEvent }: { readonly signal: AbortSignal; readonly onEvent?: (event: object) => void },
): Promise<object> {
  const socket = connect(path);
  const failed = new Promise<never>((_, reject) => socket.once('error', reject));
  failed.catch(() => undefined);
  const leave = () => socket.destroy();
  signal.addEventListener('abort', leave, { once: true });
  try {
    await Promise.race([once(socket, 'connect', { signal }), failed]);
    socket.write(`${JSON.stringify(request)}\n`);
    const lines = createInterface(socket);
    // It hears of an end, but not of a socket that is destroyed.
    socket.once('close', () => lines.close());
    for await (const line of lines) {
      const said = answerSchema.parse(JSON.parse(line));
      if ('result' in said) return said.result;
      if ('error' in said) throw new LabRequestFailed(said.error.code, said.error.message);
      onEvent?.(said.event);
    }
  } catch (error) {
    signal.throwIfAborted();
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ECONNREFUSED') throw error;
    throw new LabNotFound(`no lab is up that listens at ${path}: \`bootmesh lab up FILE\``);
  } finally {
    signal.removeEventListener('abort', leave);
    socket.destroy();
  }
  signal.throwIfAborted();
  throw new LabRequestFailed('FAILED', 'the process that held the lab up ended before it had answered');
}
