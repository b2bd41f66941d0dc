import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** A process that cannot be mistaken for a later one with the same pid. */
export interface ProcessRef {
  readonly pid: number;
  /** Clock ticks from boot to its start: field 22 of /proc/<pid>/stat, proc(5). */
  readonly startTime: string;
}

/** How often a process that is no child of ours is looked at while we wait for its end, in milliseconds. */
const LOOK_MS = 25;

/** The running process with this pid; undefined when there is none, or only its unreaped remains. */
export async function processRef(pid: number): Promise<ProcessRef | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  // The program's name is in parentheses and may hold anything, also parentheses and spaces.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, startTime] = [fields?.[0], fields?.[19]];
  if (startTime === undefined || state === 'Z' || state === 'X') return undefined;
  return { pid, startTime };
}

export async function isAlive(process: ProcessRef): Promise<boolean> {
  return (await processRef(process.pid))?.startTime === process.startTime;
}

/**
 * Asks a process to end (`SIGTERM`), and after `graceMs` ends it (`SIGKILL`). Resolves when it is gone; says whether
 * it went by itself. A process that is gone already, or another one with its pid, is left alone.
 */
export async function endProcess(ref: ProcessRef, graceMs: number): Promise<'gone' | 'ended' | 'killed'> {
  if (!(await isAlive(ref))) return 'gone';
  if (graceMs > 0) {
    signalProcess(ref.pid, 'SIGTERM');
    if (await goneWithin(ref, graceMs)) return 'ended';
  }
  signalProcess(ref.pid, 'SIGKILL');
  await goneWithin(ref, 5_000);
  return 'killed';
}

/** Sends a signal; a process that has just ended is fine. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function goneWithin(ref: ProcessRef, milliseconds: number): Promise<boolean> {
  const until = Date.now() + milliseconds;
  while (await isAlive(ref)) {
    if (Date.now() >= until) return false;
    await delay(LOOK_MS);
  }
  return true;
}
