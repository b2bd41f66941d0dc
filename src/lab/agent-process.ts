import type { ChildProcess } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import { connect as connectSocket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Namespace } from './namespace.ts';
import { type ProcessRef, processRef } from './process.ts';

export interface AgentOptions {
  readonly node: string;
  readonly namespace: Namespace;
  /** The program and its arguments. */
  readonly argv: readonly string[];
  /** Gets all that the agent prints, appended. */
  readonly log: string;
}

export interface AgentExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** The agent ended, or did not get ready in time, although nobody stopped it; the message has its last words. */
export class AgentFailed extends Error {
  readonly code = 'AGENT_FAILED';
  readonly node: string;
  /** How it ended; undefined when it still runs, and is not ready. */
  readonly exit: AgentExit | undefined;

  constructor(node: string, exit: AgentExit | undefined, log: string, lastWords: string, options?: ErrorOptions) {
    const ended = exit?.signal ? `ended by ${exit.signal}` : `ended with exit code ${exit?.code}`;
    const how = exit ? ended : 'did not get ready in time';
    super(`the agent of node ${node} ${how}; the end of ${log}:\n${lastWords.trimEnd() || '(empty)'}`, options);
    this.name = 'AgentFailed';
    this.node = node;
    this.exit = exit;
  }
}

const LAST_WORDS = 2_000;

/**
 * One agent in its node's namespace, as a child that the kernel kills when this process dies, however it dies
 * (`setpriv --pdeathsig`), so that no agent outlives its lab.
 */
export class AgentProcess {
  readonly node: string;
  readonly ref: ProcessRef;
  /** Settles when the process has ended. */
  readonly exited: Promise<AgentExit>;
  readonly #child: ChildProcess;
  readonly #log: string;

  private constructor(options: AgentOptions, child: ChildProcess, ref: ProcessRef, exited: Promise<AgentExit>) {
    this.node = options.node;
    this.#log = options.log;
    this.#child = child;
    this.ref = ref;
    this.exited = exited;
  }

  /** Resolves once the process runs, which says nothing of its being ready. */
  static async start(options: AgentOptions): Promise<AgentProcess> {
    await using log = await open(options.log, 'a', 0o600);
    const argv = ['setpriv', '--pdeathsig', 'KILL', ...options.argv];
    const stdio = ['ignore', log.fd, log.fd] as const;
    // Its own process group: Ctrl-C reaches the lab, and the lab stops its agents in its own order.
    const child = options.namespace.spawn(argv, {
      stdio: [...stdio],
      env: withoutSettings(process.env),
      cwd: '/',
      detached: true,
    });
    const exited = new Promise<AgentExit>((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }));
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
    const { pid } = child;
    if (pid === undefined) throw new TypeError('a spawned process has a pid');
    // A child that ended at once is named all the same; `exited` tells the rest.
    return new AgentProcess(options, child, (await processRef(pid)) ?? { pid, startTime: 'ended' }, exited);
  }

  /**
   * Waits for `ready`. Rejects with `AgentFailed` when the agent ends first or `timeoutMs` pass, and with the
   * reason of `signal`.
   */
  async whenReady(
    ready: (signal: AbortSignal) => Promise<void>,
    { signal, timeoutMs }: { readonly signal: AbortSignal; readonly timeoutMs: number },
  ): Promise<void> {
    const over = new AbortController();
    const late = setTimeout(() => over.abort(), timeoutMs);
    const waited = ready(AbortSignal.any([signal, over.signal])).then(() => 'ready' as const);
    try {
      const first = await Promise.race([waited, this.exited]);
      if (first !== 'ready') throw new AgentFailed(this.node, first, this.#log, await this.#lastWords());
    } catch (error) {
      signal.throwIfAborted();
      if (!over.signal.aborted) throw error;
      throw new AgentFailed(this.node, undefined, this.#log, await this.#lastWords(), { cause: error });
    } finally {
      clearTimeout(late);
      over.abort();
      waited.catch(() => undefined);
    }
  }

  /** Sends `signal`; when the agent is still there after `graceMs`, SIGKILL. Resolves when it has ended. */
  async stop(signal: 'SIGTERM' | 'SIGKILL', graceMs: number): Promise<AgentExit> {
    this.#child.kill(signal);
    const late = setTimeout(() => this.#child.kill('SIGKILL'), graceMs);
    try {
      return await this.exited;
    } finally {
      clearTimeout(late);
    }
  }

  async #lastWords(): Promise<string> {
    return (await readFile(this.#log, 'utf8').catch(() => '')).slice(-LAST_WORDS);
  }
}

/** Resolves once something accepts connections on the unix socket `path`; rejects when `signal` fires. */
export async function socketReady(path: string, signal: AbortSignal): Promise<void> {
  while (!(await accepts(path))) await delay(50, undefined, { signal });
}

function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectSocket(path);
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/** Without BOOTMESH_*: one such variable would give all agents the same data directory. */
export function withoutSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('BOOTMESH_')));
}
