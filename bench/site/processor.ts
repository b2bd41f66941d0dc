import { readFile } from 'node:fs/promises';

/** USER_HZ, which Linux fixes at 100 on the machines that Node runs on. */
export const TICKS_PER_SECOND = 100;

/**
 * Processor time of a process and of its children that ended and were waited for, in ticks; 0 when it is gone.
 * proc(5), /proc/<pid>/stat: fields 14 to 17, counted after the program's name, which may hold anything.
 */
export async function processorTicks(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return [14, 15, 16, 17].reduce((total, field) => total + Number(fields[field - 3] ?? 0), 0);
}

/** The whole machine's processor time, in ticks of all processors together. */
export async function machineTicks(): Promise<{ readonly idle: number; readonly all: number }> {
  const [line = ''] = (await readFile('/proc/stat', 'utf8')).split('\n');
  // user nice system idle iowait irq softirq steal; guest time is part of user time.
  const ticks = line.split(/\s+/).slice(1, 9).map(Number);
  return { idle: (ticks[3] ?? 0) + (ticks[4] ?? 0), all: ticks.reduce((total, each) => total + each, 0) };
}

/** Megabytes of memory that a process has had at most since its peak was last forgotten, and has now. */
export async function residentMegabytes(pid: number): Promise<{ readonly peak: number; readonly now: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const megabytes = (field: string) =>
    (Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0) * 1024) / 1e6;
  return { peak: megabytes('VmHWM'), now: megabytes('VmRSS') };
}
