import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { connectAdmin } from '../admin/admin-client.ts';
import {
  type OperationCode,
  OperationError,
  type OperationOptions,
  type Progress as OperationProgress,
  type Operations,
  operationErrorOf,
} from '../admin/operations.ts';
import { type Config, type ConfigInput, loadConfig } from '../agent/config.ts';
import { createLog } from '../observe/log.ts';
import { openProgress, type Progress } from '../observe/progress.ts';

/** What a verb has to say: `result` under --json, `text` otherwise. */
export interface Outcome {
  readonly result: object;
  /** Lines without the closing newline; empty for none. */
  readonly text: string;
  /** @default 0 */
  readonly exitCode?: number;
}

/** Without an agent: how long the store may be looked through for what it holds, before a verb does its work. */
const LOOK_MS = 2_000;

/** Also in `bootmesh --help`. */
export const exitCodes: Readonly<Record<OperationCode, number>> = {
  FAILED: 1,
  USAGE: 2,
  NOT_FOUND: 3,
  REFUSED: 4,
  UNREACHABLE: 5,
  BUSY: 6,
  ABORTED: 130,
};

export interface VerbHelp {
  readonly summary: string;
  /** Command lines that can be copied, each without `bootmesh`. */
  readonly examples: readonly string[];
}

/** Adds a verb with the options that all have. `usage` is commander's: `get <name>`. */
export function addVerb(parent: Command, usage: string, { summary, examples }: VerbHelp): Command {
  const lines = examples.map((example) => `  $ bootmesh ${example}`).join('\n');
  return parent
    .command(usage)
    .description(summary)
    .option('--data <directory>', 'the node’s data directory (BOOTMESH_DATA) (default: /var/lib/bootmesh)')
    .option('--config <file>', 'the agent’s configuration file (BOOTMESH_CONFIG)')
    .option('--json', 'print one JSON object as the last line, and no progress')
    .addHelpText('after', `\nExamples:\n${lines}`);
}

/** One run of a verb: its options, its interruption, and what it talks to. */
export class Session {
  readonly json: boolean;
  /** Aborted by the first Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal;
  readonly #options: { readonly data?: string; readonly config?: string; readonly json?: boolean };
  readonly #stack: AsyncDisposableStack;
  #shown: { readonly phase: string; readonly progress: Progress } | undefined;

  constructor(command: Command, signal: AbortSignal, stack: AsyncDisposableStack) {
    this.#options = command.opts();
    this.json = this.#options.json ?? false;
    this.signal = signal;
    this.#stack = stack;
    stack.defer(() => this.#shown?.progress.finish());
  }

  /** Flags over environment over file. */
  async config(flags: ConfigInput = {}): Promise<Config> {
    const { data, config = process.env['BOOTMESH_CONFIG'] } = this.#options;
    const given = { ...(data !== undefined && { data }), ...flags };
    return await loadConfig({ file: config || undefined, env: process.env, flags: given });
  }

  /** The running agent's operations; this process's own on the data directory when there is no agent. */
  async operations({ create = false } = {}): Promise<Operations> {
    const config = await this.config();
    return (await connectAdmin(config.data)) ?? (await this.#openLocal(config, create));
  }

  get options(): OperationOptions {
    return { signal: this.signal, onProgress: this.progress };
  }

  /** Shows how far a long operation is, one line for each phase. */
  progress = ({ phase, bytes, total }: OperationProgress): void => {
    if (this.#shown?.phase !== phase) {
      this.#shown?.progress.finish();
      const stream = this.json ? undefined : process.stderr;
      this.#shown = { phase, progress: openProgress({ label: phase, total, stream }) };
    }
    this.#shown.progress.update(bytes, total);
  };

  /** Ends the progress line, so that what follows has a line of its own. */
  endProgress(): void {
    this.#shown?.progress.finish();
    this.#shown = undefined;
  }

  /** A remark for a person: on standard error, and none under --json. */
  note(text: string): void {
    this.endProgress();
    if (!this.json) process.stderr.write(`${text}\n`);
  }

  /** Has `resource` disposed when the verb is done. */
  use<T extends AsyncDisposable>(resource: T): T {
    return this.#stack.use(resource);
  }

  async #openLocal(config: Config, create: boolean): Promise<Operations> {
    if (!create && !(await exists(join(config.data, 'store')))) {
      const advice = `start one with \`bootmesh up --data ${config.data}\`, or name its directory with --data`;
      throw new OperationError(
        'UNREACHABLE',
        `no agent is running on ${config.data}, and it holds no store: ${advice}`,
      );
    }
    // Most of the program, and not needed where an agent answers.
    const [{ MeshNode }, { LocalOperations }, { checkCommandLine }, { createMetrics }] = await Promise.all([
      import('../agent/node.ts'),
      import('../agent/local-operations.ts'),
      import('../boot/command-line.ts'),
      import('../observe/metrics.ts'),
    ]);
    const log = createLog({ level: 'error' });
    // Nobody is to find a node that is gone in a moment.
    const quiet = { ...config, swarm: { ...config.swarm, listen: [] } };
    const node = this.use(await MeshNode.open({ config: quiet, log, metrics: createMetrics(), brief: true }));
    const looked = node.releases?.follower.looked();
    await Promise.race([looked, delay(LOOK_MS, undefined, { signal: this.signal, ref: false })]);
    return new LocalOperations({ node, data: config.data, checkCommandLine });
  }
}

/** Runs a verb to its end: prints what it says, and sets the exit code of the process. */
export async function perform(command: Command, work: (session: Session) => Promise<Outcome>): Promise<void> {
  const stop = new AbortController();
  const interrupt = (signal: NodeJS.Signals, number: number) => {
    if (stop.signal.aborted) process.exit(128 + number);
    stop.abort(new Interrupted(signal, 128 + number));
  };
  process.on('SIGINT', (signal) => interrupt(signal, 2));
  process.on('SIGTERM', (signal) => interrupt(signal, 15));
  process.on('SIGHUP', (signal) => interrupt(signal, 1));
  const json: boolean = command.opts()['json'] ?? false;
  try {
    await using stack = new AsyncDisposableStack();
    const session = new Session(command, stop.signal, stack);
    const { result, text, exitCode = 0 } = await work(session);
    session.endProgress();
    process.exitCode = exitCode;
    if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
    else if (text !== '') process.stdout.write(`${text}\n`);
  } catch (error) {
    const { code, message, exitCode } = failureOf(error);
    process.exitCode = exitCode;
    if (json) process.stdout.write(`${JSON.stringify({ error: { code, message, exit: exitCode } })}\n`);
    else process.stderr.write(`bootmesh: ${message}\n`);
  }
  leaveSoon();
}

/** Says what is wrong with a command line, and where to read on. */
export function usageError(message: string): OperationError {
  return new OperationError('USAGE', message);
}

class Interrupted extends Error {
  readonly code = 'ABORTED';
  readonly exitCode: number;

  constructor(signal: NodeJS.Signals, exitCode: number) {
    super(`interrupted by ${signal}`);
    this.name = 'Interrupted';
    this.exitCode = exitCode;
  }
}

function failureOf(error: unknown): { code: string; message: string; exitCode: number } {
  // Disposal that failed as well must not hide why the verb did.
  const first = error instanceof SuppressedError ? (error.suppressed ?? error) : error;
  if (first instanceof Interrupted) return first;
  const { code, message } = operationErrorOf(first);
  return { code, message, exitCode: exitCodes[code] };
}

/** A verb that is over must not hang on a handle that some library forgot. */
function leaveSoon(): void {
  setTimeout(() => process.exit(), 2_000).unref();
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
