import { spawn } from 'node:child_process';
import { mkdir, open, readFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type FleetDescription, readDescription } from '../fleet/description.ts';
import { CommandFailed, type CommandOutput } from '../host/command.ts';
import { withoutSettings } from './agent-process.ts';
import { askLab, type LabRequest } from './lab-server.ts';
import { LabBusy, LabDirectory, LabNotFound, type LabState } from './lab-state.ts';
import { listNamespaces, Namespace } from './namespace.ts';
import { isAlive, type ProcessRef } from './process.ts';
import { type Counter, readCounter } from './shaping.ts';
import { type AddressPair, type Port, planTopology, type Topology } from './topology.ts';

/** What another process than the lab's own can see of a lab. */
export interface LabStatus {
  readonly directory: string;
  /** `broken`: the process that held it up died and left things behind; `bootmesh lab down` removes them. */
  readonly state: 'down' | 'starting' | 'up' | 'broken';
  readonly fleet?: string;
  /** Pid of the process that holds it up. */
  readonly pid?: number;
  readonly nodes: readonly NodeStatus[];
  readonly machines: readonly { name: string; segment: string; pid?: number; serialLog: string }[];
  /** Sites that do not reach each other now, or one that reaches nobody. */
  readonly cuts: readonly (readonly string[])[];
  readonly uplinks: readonly { site: string; toSite?: Counter; fromSite?: Counter }[];
  /** Its namespaces that exist. */
  readonly namespaces: readonly string[];
}

export interface NodeStatus {
  readonly name: string;
  readonly site: string;
  readonly segment: string;
  readonly namespace: string;
  readonly addresses: AddressPair;
  /** In the WireGuard overlay, where there is one. */
  readonly overlay?: string;
  readonly peerId?: string;
  /** Pid of its agent; absent when it is not running. */
  readonly pid?: number;
  readonly log: string;
  readonly socket: string;
}

/** The background process ended before its lab stood; the message holds the end of its log. */
export class LabFailed extends Error {
  readonly code = 'LAB_FAILED';
  readonly log: string;

  constructor(why: string, log: string, lastWords: string) {
    super(`the lab ${why}; the end of ${log}:\n${lastWords.trimEnd() || '(empty)'}`);
    this.name = 'LabFailed';
    this.log = log;
  }
}

const LAST_WORDS = 4_000;

/** Looks at the lab in `directory` from outside; a directory without one is `down`. */
export async function labStatus(directory: string): Promise<LabStatus> {
  const lab = new LabDirectory(directory);
  const state = await lab.read();
  const namespaces = await listNamespaces(lab.prefix);
  const seen = { directory: lab.path, namespaces };
  if (typeof state !== 'object') {
    const broken = state === 'damaged' || namespaces.length > 0;
    return { ...seen, state: broken ? 'broken' : 'down', nodes: [], machines: [], cuts: [], uplinks: [] };
  }
  const held = await isAlive(state.owner);
  const [upOrStarting, pid] = [state.ready ? ('up' as const) : ('starting' as const), state.owner.pid];
  const { fleet, cuts } = state;
  const standing = { ...seen, fleet, cuts, pid, state: held ? upOrStarting : ('broken' as const) };
  const description = await readDescription(lab.fleetFile).catch(() => undefined);
  if (!description) return { ...standing, nodes: [], machines: [], uplinks: [] };
  const topology = planTopology(description, lab.id);
  return {
    ...standing,
    nodes: await Promise.all(
      Object.keys(description.nodes).map((name) => nodeStatus(name, lab, description, topology, state)),
    ),
    machines: await Promise.all(
      Object.entries(description.machines).map(async ([name, { segment }]) => {
        return { name, segment, ...(await running(state.machines[name])), serialLog: lab.serialLog(name) };
      }),
    ),
    uplinks: await Promise.all(
      Object.entries(topology.uplinks).map(async ([site, ports]) => {
        const [toSite, fromSite] = await Promise.all([count(ports.toSite), count(ports.fromSite)]);
        return { site, ...(toSite && { toSite }), ...(fromSite && { fromSite }) };
      }),
    ),
  };
}

async function nodeStatus(
  name: string,
  lab: LabDirectory,
  description: FleetDescription,
  topology: Topology,
  state: LabState,
): Promise<NodeStatus> {
  const planned = topology.nodes[name];
  if (!planned) throw new TypeError(`the plan has no node '${name}'`);
  const { site, segment, namespace, addresses } = planned;
  const { log, socket } = lab.node(name);
  const peerId = description.nodes[name]?.peerId;
  const agent = await running(state.agents[name]);
  const overlay = state.overlay[name];
  const known = { ...(overlay !== undefined && { overlay }), ...(peerId !== undefined && { peerId }) };
  return { name, site, segment, namespace, addresses, ...known, ...agent, log, socket };
}

async function running(ref: ProcessRef | undefined): Promise<{ pid?: number }> {
  return ref && (await isAlive(ref)) ? { pid: ref.pid } : {};
}

/** The counter of a port; undefined while the lab is starting and the port not there yet. */
function count({ namespace, interface: name }: Port): Promise<Counter | undefined> {
  return readCounter(new Namespace(namespace), name).catch(() => undefined);
}

/**
 * Asks the process that holds the lab up. Rejects with `LabNotFound` when there is none or nothing of that name in it, and
 * with `LabRequestFailed`.
 */
export async function labAsk(
  directory: string,
  request: LabRequest,
  options: { readonly signal: AbortSignal; readonly onEvent?: (event: object) => void },
): Promise<object> {
  return await askLab(new LabDirectory(directory).socket, request, options);
}

/** Of programs in a node's namespace: `bootmesh` there finds the node's own configuration, and nothing goes over that. */
export function environmentOf(config: string): NodeJS.ProcessEnv {
  return { ...withoutSettings(process.env), BOOTMESH_CONFIG: config };
}

/** A verb of `bootmesh` failed; `code` is one of those that its exit codes stand for. */
export class VerbFailed extends Error {
  readonly code: string;
  readonly exitCode: number | undefined;

  constructor(code: string, exitCode: number | undefined, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'VerbFailed';
    this.code = code;
    this.exitCode = exitCode;
  }
}

/** What the last line of a command with `--json` says. Rejects with `VerbFailed`. */
export async function runVerb(
  run: (argv: readonly string[]) => Promise<CommandOutput>,
  argv: readonly string[],
): Promise<unknown> {
  try {
    return lastLine((await run(argv)).stdout);
  } catch (cause) {
    if (!(cause instanceof CommandFailed)) throw cause;
    const said = lastLine(cause.stdout) as { error?: { code: string; message: string } } | undefined;
    const { code = 'FAILED', message = cause.message } = said?.error ?? {};
    throw new VerbFailed(code, cause.exitCode, message, { cause });
  }
}

function lastLine(text: string): unknown {
  const line = text.trimEnd().split('\n').at(-1) ?? '';
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/**
 * Runs a program in a node's namespace with this process's own standard streams, and resolves to its exit code (128 +
 * number for a signal, as shells say it). `bootmesh` there speaks to the node's own agent. @throws {LabNotFound}
 */
export async function labExec(directory: string, node: string, argv: readonly string[]): Promise<number> {
  const status = await labStatus(directory);
  const found = status.nodes.find(({ name }) => name === node);
  if (!found || !status.namespaces.includes(found.namespace)) {
    const names = status.nodes.map(({ name }) => name);
    if (names.length === 0) throw new LabNotFound(`the lab in ${status.directory} is not up`);
    throw LabNotFound.unknown('node', node, names);
  }
  const env = environmentOf(new LabDirectory(directory).node(node).config);
  const child = new Namespace(found.namespace).spawn(argv, { stdio: 'inherit', env });
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(code ?? 128 + signalNumber(signal)));
  });
}

function signalNumber(signal: NodeJS.Signals | null): number {
  return signal ? (constants.signals[signal] ?? 0) : 0;
}

/**
 * Has `command` (this program's own foreground `lab up`, with the same directory) hold the lab up in the background,
 * and resolves once it stands. The command's output goes to `<directory>.log`. When it ends first, it has removed its own; when `signal`
 * fires it is asked to end (and takes down what stands). @throws {LabFailed} {LabBusy}
 */
export async function labUpDetached(
  command: readonly string[],
  directory: string,
  { signal }: { readonly signal: AbortSignal },
): Promise<LabStatus> {
  const lab = new LabDirectory(directory);
  const standing = await lab.read();
  if (typeof standing === 'object' && (await isAlive(standing.owner))) throw new LabBusy(lab.path, standing.owner);
  const logFile = `${lab.path}.log`;
  await mkdir(dirname(logFile), { recursive: true, mode: 0o700 });
  await using log = await open(logFile, 'w', 0o600);
  const [program = '', ...args] = command;
  const child = spawn(program, args, { stdio: ['ignore', log.fd, log.fd], detached: true, cwd: process.cwd() });
  let ended: string | undefined;
  child.once('error', (error) => {
    ended = `could not be started: ${error.message}`;
  });
  child.once('exit', (code, by) => {
    ended = by ? `was ended by ${by}` : `ended with exit code ${code}`;
  });
  try {
    for (;;) {
      const state = await lab.read();
      if (typeof state === 'object' && state.ready && (await isAlive(state.owner))) break;
      if (ended !== undefined) {
        throw new LabFailed(ended, logFile, (await readFile(logFile, 'utf8')).slice(-LAST_WORDS));
      }
      await delay(50, undefined, { signal });
    }
  } catch (error) {
    child.kill('SIGTERM');
    signal.throwIfAborted();
    throw error;
  }
  child.unref();
  return await labStatus(directory);
}
