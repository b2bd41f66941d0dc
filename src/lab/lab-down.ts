import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { LabDirectory } from './lab-state.ts';
import { listNamespaces, Namespace } from './namespace.ts';
import { endProcess } from './process.ts';

export interface DownOptions {
  /** Leaves configurations, logs and stores in the lab's directory. @default false */
  readonly keepLogs?: boolean;
  /** Milliseconds that the lab's process has to take everything down itself, and then each agent. @default 20_000 */
  readonly graceMs?: number;
}

export interface DownReport {
  readonly directory: string;
  /** False when nothing of the lab was there. */
  readonly found: boolean;
  /** How the process that held the lab up went; 'gone' when it had died before. */
  readonly owner: 'gone' | 'ended' | 'killed';
  /** Namespaces that were left for us to remove. */
  readonly namespaces: readonly string[];
  /** Agents and machines that were left for us to end. */
  readonly processes: number;
}

/**
 * Takes a lab down from whatever state it is in: asks the process that holds it up to do so, and removes what is left
 * when that process is dead, or dies of being asked. Idempotent. `directory` is the lab's, see `labDirectory`.
 */
export async function labDown(directory: string, options: DownOptions = {}): Promise<DownReport> {
  const lab = new LabDirectory(directory);
  const state = await lab.read();
  const known = typeof state === 'object';
  const other = known && state.owner.pid !== process.pid;
  const owner = other ? await endProcess(state.owner, options.graceMs ?? 20_000) : 'gone';
  const left = await cleanUp(lab, options);
  return { directory: lab.path, found: state !== undefined || left.namespaces.length > 0, owner, ...left };
}

/** Ends every process and removes every namespace and file of a lab that nobody holds up. Idempotent. */
export async function cleanUp(
  lab: LabDirectory,
  { keepLogs = false }: DownOptions = {},
): Promise<{ namespaces: string[]; processes: number }> {
  const state = await lab.read();
  const refs = typeof state === 'object' ? [...Object.values(state.agents), ...Object.values(state.machines)] : [];
  const ended = await Promise.all(refs.map((ref) => endProcess(ref, 0)));
  // By prefix, not by the state's list alone: also when the state is damaged or gone.
  const namespaces = await listNamespaces(lab.prefix);
  await Promise.all(namespaces.map((name) => new Namespace(name)[Symbol.asyncDispose]()));
  await removeSockets(lab.interfacePrefix);
  await lab.clear(keepLogs);
  return { namespaces, processes: ended.filter((end) => end !== 'gone').length };
}

/** Where wireguard-go keeps its control sockets; one that is killed leaves its own behind. */
const WIREGUARD_SOCKETS = '/var/run/wireguard';

async function removeSockets(prefix: string): Promise<void> {
  const names = await readdir(WIREGUARD_SOCKETS).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  for (const name of names.filter((each) => each.startsWith(prefix))) {
    await rm(join(WIREGUARD_SOCKETS, name), { force: true });
  }
}
