import { access, mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** How a process is kept to a share of one processor. */
export type ShareBy = 'cgroup v2' | 'cgroup v1' | 'itself';

/** A control group with a quota of processor time. Disposing removes it; its processes must be gone by then. */
export interface Share extends AsyncDisposable {
  readonly by: ShareBy;
  add(pid: number): Promise<void>;
}

/** The kernel hands the quota out anew this often, microseconds. */
const PERIOD_US = 100_000;
const ROOTS = { 'cgroup v2': '/sys/fs/cgroup', 'cgroup v1': '/sys/fs/cgroup/cpu' } as const;
const TRIES = 50;

/** A quota of so much of one processor, by whichever control groups this host has; `itself` when it has none. */
export async function limitTo(share: number, name: string): Promise<Share> {
  const quota = Math.round(PERIOD_US * share);
  return (
    (await group('cgroup v2', name, { 'cpu.max': `${quota} ${PERIOD_US}` })) ??
    (await group('cgroup v1', name, { 'cpu.cfs_period_us': `${PERIOD_US}`, 'cpu.cfs_quota_us': `${quota}` })) ?? {
      by: 'itself',
      add: async () => undefined,
      [Symbol.asyncDispose]: async () => undefined,
    }
  );
}

async function group(
  by: keyof typeof ROOTS,
  name: string,
  settings: Record<string, string>,
): Promise<Share | undefined> {
  const directory = join(ROOTS[by], name);
  if (by === 'cgroup v2' && !(await hasCpu())) return undefined;
  if (
    !(await access(join(ROOTS[by], 'cgroup.procs')).then(
      () => true,
      () => false,
    ))
  )
    return undefined;
  try {
    await mkdir(directory);
    for (const [file, value] of Object.entries(settings)) await writeFile(join(directory, file), value);
  } catch {
    await rmdir(directory).catch(() => undefined);
    return undefined;
  }
  return {
    by,
    add: (pid) => writeFile(join(directory, 'cgroup.procs'), String(pid)),
    [Symbol.asyncDispose]: () => remove(directory),
  };
}

async function hasCpu(): Promise<boolean> {
  const enabled = await readFile(join(ROOTS['cgroup v2'], 'cgroup.subtree_control'), 'utf8').catch(() => '');
  return enabled.split(/\s+/).includes('cpu');
}

/** A group is busy until the kernel has let go of the last process in it. */
async function remove(directory: string): Promise<void> {
  for (let n = 0; ; n += 1) {
    try {
      return await rmdir(directory);
    } catch (error) {
      if (n >= TRIES) throw error;
      await delay(20);
    }
  }
}
