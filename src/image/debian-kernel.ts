import { createHash } from 'node:crypto';
import { access, mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { type DebianOptions, debianPackages, realPackage } from './debian-packages.ts';
import { runHostProgram } from './host-program.ts';

/** A kernel as files; Debian's are unpacked in the cache and not installed anywhere. */
export interface Kernel {
  /** As `uname -r` prints it: `6.1.0-56-cloud-amd64`. */
  readonly release: string;
  /** Absent when only a directory of modules was given. */
  readonly vmlinuz?: string;
  /** Its modules directory, with modules.dep. */
  readonly modules: string;
}

export type DebianKernel = Required<Kernel>;

/** Built for virtual machines: small, with virtio and without most real cards. */
export const CLOUD_KERNEL = 'linux-image-cloud-amd64';

/** A kernel package without a kernel in it. */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  readonly code = 'NO_KERNEL';
}

/**
 * The kernel that an operator names: a directory of modules (`/lib/modules/6.1.0-56-amd64`), a kernel's `.deb` file, or
 * a Debian metapackage (`linux-image-amd64`).
 * @throws KernelError, HostProgramError
 */
export async function findKernel(
  name: string,
  options: DebianOptions,
  { signal }: { signal: AbortSignal },
): Promise<Kernel> {
  if (name.endsWith('.deb')) return await unpackKernel(resolve(name), options, signal);
  if (name.includes('/')) return { release: basename(resolve(name)), modules: resolve(name) };
  return await debianKernel({ ...options, metapackage: name }, { signal });
}

/**
 * The kernel that a metapackage stands for. The first call downloads and unpacks it, later ones only look into the
 * cache.
 * @throws KernelError, HostProgramError
 */
export async function debianKernel(
  options: DebianOptions & { /** @default CLOUD_KERNEL */ readonly metapackage?: string },
  { signal }: { signal: AbortSignal },
): Promise<DebianKernel> {
  const name = await realPackage(options.metapackage ?? CLOUD_KERNEL, /^linux-image-\d/, options, { signal });
  const [found] = await debianPackages([name], false, options, { signal });
  return await unpackKernel(join(options.cache, 'packages', found?.file ?? ''), options, signal);
}

async function unpackKernel(deb: string, options: DebianOptions, signal: AbortSignal): Promise<DebianKernel> {
  await mkdir(options.cache, { recursive: true });
  const key = createHash('sha256')
    .update(await readFile(deb, { signal }))
    .digest('hex')
    .slice(0, 16);
  const directory = join(options.cache, `kernel-${key}`);
  if (await exists(directory)) return await kernelIn(directory);
  options.onProgress?.(`unpacking ${basename(deb)}`);
  const work = await mkdtemp(join(options.cache, 'unpack-'));
  try {
    await runHostProgram('dpkg-deb', ['--extract', deb, work], { signal });
    // The package leaves this to its installation script, which does not run here.
    await runHostProgram('depmod', ['-b', work, (await kernelIn(work)).release], { signal });
    await rename(work, directory).catch(async (error) => {
      if (!(await exists(directory))) throw error; // Else another process was faster, with the same result.
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return await kernelIn(directory);
}

async function kernelIn(directory: string): Promise<DebianKernel> {
  for (const tree of ['lib/modules', 'usr/lib/modules']) {
    const [release] = await readdir(join(directory, tree)).catch(() => []);
    if (release === undefined) continue;
    const vmlinuz = join(directory, 'boot', `vmlinuz-${release}`);
    if (await exists(vmlinuz)) return { release, vmlinuz, modules: join(directory, tree, release) };
  }
  throw new KernelError(`no kernel with modules in ${directory}: expected boot/vmlinuz-* and lib/modules/*`);
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
