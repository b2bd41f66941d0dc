import { access, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type DebianOptions, debianPackages, realPackage, unpackPackages } from './debian-packages.ts';
import { runHostProgram } from './host-program.ts';

/** A kernel of Debian's, unpacked in the cache and not installed anywhere. */
export interface DebianKernel {
  /** As `uname -r` prints it: `6.1.0-56-cloud-amd64`. */
  readonly release: string;
  readonly vmlinuz: string;
  /** Its modules directory, with modules.dep. */
  readonly modules: string;
}

/** Built for virtual machines: small, with virtio and without most real cards. */
export const CLOUD_KERNEL = 'linux-image-cloud-amd64';

/**
 * The kernel that a metapackage stands for, e.g. linux-image-cloud-amd64 or linux-image-amd64. The first call
 * downloads and unpacks, later ones only look into the cache.
 * @throws HostProgramError
 */
export async function debianKernel(
  options: DebianOptions & { /** @default CLOUD_KERNEL */ readonly metapackage?: string },
  { signal }: { signal: AbortSignal },
): Promise<DebianKernel> {
  const name = await realPackage(options.metapackage ?? CLOUD_KERNEL, /^linux-image-\d/, options, { signal });
  const release = name.replace(/^linux-image-/, '').replace(/-unsigned$/, '');
  const packages = await debianPackages([name], false, options, { signal });
  const directory = join(options.cache, `kernel-${packages[0]?.sha256.slice(0, 16)}`);
  const kernel = {
    release,
    vmlinuz: join(directory, 'boot', `vmlinuz-${release}`),
    modules: join(directory, 'lib/modules', release),
  };
  if (await exists(kernel.vmlinuz)) return kernel;
  options.onProgress?.(`unpacking kernel ${release}`);
  const work = await mkdtemp(join(options.cache, 'unpack-'));
  try {
    await unpackPackages(packages, work, options, { signal });
    // The package leaves this to its installation script, which does not run here.
    await runHostProgram('depmod', ['-b', work, release], { signal });
    // Another process may have been faster: its result is the same.
    await rename(work, directory).catch(async (error) => {
      if (!(await readdir(directory).catch(() => [])).length) throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return kernel;
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
