import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const launcher = fileURLToPath(new URL('../../src/launch/launch.js', import.meta.url));

export interface CliRun {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The last line of standard output as JSON. */
  json(): Record<string, unknown>;
}

export interface CliProcess {
  readonly child: ChildProcess;
  readonly done: Promise<CliRun>;
  /** Resolves when standard output or error has matched. */
  waitFor(pattern: RegExp): Promise<void>;
}

/** Starts the real command as users do, with a clean environment. */
export function startCli(
  args: readonly string[],
  options: { node?: string; env?: NodeJS.ProcessEnv; namespace?: string } = {},
): CliProcess {
  const { node = process.execPath, namespace } = options;
  const enter = namespace === undefined ? [] : ['ip', 'netns', 'exec', namespace];
  const [program = node, ...rest] = [...enter, node, launcher, ...args];
  const child = spawn(program, rest, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], HOME: '/nonexistent', ...options.env },
  });
  let [stdout, stderr] = ['', ''];
  const waiting = new Set<() => void>();
  const heard = () => {
    for (const check of waiting) check();
  };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    heard();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    heard();
  });
  const done = once(child, 'close').then(([code, signal]) => {
    heard();
    const json = () => JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
    return { code, signal, stdout, stderr, json };
  });
  const waitFor = (pattern: RegExp) =>
    new Promise<void>((resolve, reject) => {
      const check = () => {
        if (pattern.test(stdout) || pattern.test(stderr)) resolve();
        else if (child.exitCode !== null) reject(new Error(`ended without ${pattern}: ${stdout}${stderr}`));
        else return;
        waiting.delete(check);
      };
      waiting.add(check);
      check();
    });
  return { child, done, waitFor };
}

export function runCli(...args: readonly string[]): Promise<CliRun> {
  return startCli(args).done;
}
