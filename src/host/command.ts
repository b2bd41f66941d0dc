import { type ChildProcess, execFile } from 'node:child_process';

export interface CommandOptions {
  readonly signal?: AbortSignal;
  /** Milliseconds after which the command is killed and counts as failed; 0 for never. @default 20_000 */
  readonly timeoutMs?: number;
  /** Bytes of output kept; a command that prints more is killed. @default 4 MiB */
  readonly maxOutput?: number;
  /** What it reads from its standard input. @default nothing */
  readonly input?: string;
  /** @default this process's own */
  readonly env?: NodeJS.ProcessEnv;
}

export interface CommandOutput {
  readonly stdout: string;
  readonly stderr: string;
}

/** A program of the host (ip, tc, …) refused or could not be run. `exitCode` is undefined when it never started. */
export class CommandFailed extends Error {
  readonly code = 'COMMAND_FAILED';
  readonly argv: readonly string[];
  readonly exitCode: number | undefined;
  readonly stderr: string;
  /** What it printed before it failed. */
  readonly stdout: string;

  constructor(argv: readonly string[], exitCode: number | undefined, output: CommandOutput, options?: ErrorOptions) {
    const why = output.stderr.trim() || (exitCode === undefined ? 'could not be run' : `exit code ${exitCode}`);
    super(`\`${argv.join(' ')}\` failed: ${why}`, options);
    this.name = 'CommandFailed';
    this.argv = argv;
    this.exitCode = exitCode;
    this.stderr = output.stderr;
    this.stdout = output.stdout;
  }
}

/** Runs one program to its end, without a shell. Rejects with `CommandFailed`, or with the signal's reason. */
export function command(argv: readonly string[], options: CommandOptions = {}): Promise<CommandOutput> {
  const [file, ...args] = argv;
  if (file === undefined) throw new TypeError('an empty command cannot be run');
  options.signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const child: ChildProcess = execFile(
      file,
      args,
      {
        encoding: 'utf8',
        timeout: options.timeoutMs ?? 20_000,
        maxBuffer: options.maxOutput ?? 4 * 1024 * 1024,
        killSignal: 'SIGKILL',
        ...(options.signal && { signal: options.signal }),
        ...(options.env && { env: options.env }),
      },
      (error, stdout, stderr) => {
        if (!error) return resolve({ stdout, stderr });
        if (options.signal?.aborted) return reject(options.signal.reason);
        const exitCode = typeof error.code === 'number' ? error.code : undefined;
        const said = stderr || (exitCode === undefined ? error.message : '');
        return reject(new CommandFailed(argv, exitCode, { stdout, stderr: said }, { cause: error }));
      },
    );
    // It may end without reading: its exit code tells.
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.input);
  });
}
