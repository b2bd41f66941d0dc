import { createHash } from 'node:crypto';
import {
  chmod,
  constants,
  copyFile,
  cp,
  lstat,
  mkdir,
  mkdtemp,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type DebianOptions, debianPackages, unpackPackages } from './debian-packages.ts';
import { runHostProgram } from './host-program.ts';

/** A file or link of the caller's own that is laid over the packages. */
export type RootfsFile =
  | { readonly path: string; readonly mode: number; readonly data: string | Uint8Array }
  | { readonly path: string; readonly target: string };

export interface RootfsOptions extends DebianOptions {
  /** Debian packages; their dependencies come along. Their maintainer scripts do not run. */
  readonly packages: readonly string[];
  /** Laid over the packages, in this order; paths are relative to the root. @default [] */
  readonly files?: readonly RootfsFile[];
  /** Paths taken out of what the packages brought. @default documentation and translations under usr/share */
  readonly leaveOut?: readonly string[];
  /**
   * 'none' lets neighbouring versions share most of their chunks; 'zstd' takes less memory in the machine that
   * runs from it. @default 'none'
   */
  readonly compression?: 'none' | 'zstd';
  readonly output: string;
}

export interface Rootfs {
  readonly output: string;
  /** Bytes; a multiple of 4096. */
  readonly size: number;
}

/** What nobody reads on a machine without a disk. */
const DOCUMENTATION: readonly string[] = ['doc', 'info', 'lintian', 'locale', 'man'].map((name) => `usr/share/${name}`);

const MERGED_DIRECTORIES = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'];
const EMPTY_DIRECTORIES = ['dev', 'proc', 'sys', 'run', 'tmp', 'root', 'mnt', 'etc', 'var'];
/** Part of the cache key: raise it when the same options give other bytes than before. */
const RECIPE = 1;

/**
 * A squashfs image of Debian packages and some files on top. The same packages, files and mksquashfs give the same
 * bytes (owner root, all times zero). A second call with the same options copies the image from the cache.
 * @throws HostProgramError when apt, dpkg-deb or mksquashfs fails.
 */
export async function buildRootfs(options: RootfsOptions, { signal }: { signal: AbortSignal }): Promise<Rootfs> {
  const progress = options.onProgress ?? (() => {});
  await mkdir(options.cache, { recursive: true });
  const packages =
    options.packages.length === 0 ? [] : await debianPackages(options.packages, true, options, { signal });
  const files = options.files ?? [];
  const leaveOut = options.leaveOut ?? DOCUMENTATION;
  const compression = options.compression ?? 'none';
  const key = createHash('sha256').update(JSON.stringify([RECIPE, packages, files.map(digest), leaveOut, compression]));
  const cached = join(options.cache, `rootfs-${key.digest('hex').slice(0, 24)}.squashfs`);
  if (!(await isThere(cached))) {
    const work = await mkdtemp(join(options.cache, 'rootfs-'));
    try {
      progress(`unpacking ${packages.length} packages`);
      const tree = join(work, 'tree');
      await unpackPackages(packages, tree, options, { signal });
      await mergeUsr(tree);
      for (const path of leaveOut) await rm(join(tree, path), { recursive: true, force: true });
      for (const path of EMPTY_DIRECTORIES) await mkdir(join(tree, path), { recursive: true });
      for (const file of files) await place(tree, file);
      progress('writing the squashfs image');
      await makeSquashfs(tree, join(work, 'image'), compression, signal);
      await rename(join(work, 'image'), cached);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }
  await mkdir(dirname(options.output), { recursive: true });
  await copyFile(cached, `${options.output}.part`, constants.COPYFILE_FICLONE);
  await rename(`${options.output}.part`, options.output);
  const { size } = await stat(options.output);
  progress(`rootfs of ${(size / 1e6).toFixed(1)} MB written to ${options.output}`);
  return { output: options.output, size };
}

/**
 * Debian's packages still ship files under /bin, /lib and so on and rely on these being links into /usr, which an
 * installation script makes; here the links are made after unpacking.
 */
async function mergeUsr(tree: string): Promise<void> {
  for (const name of MERGED_DIRECTORIES) {
    const from = join(tree, name);
    const found = await lstat(from).catch(() => undefined);
    if (found?.isDirectory()) {
      await cp(from, join(tree, 'usr', name), { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
      await rm(from, { recursive: true });
    }
    if (found !== undefined || name === 'bin' || name === 'sbin') {
      await mkdir(join(tree, 'usr', name), { recursive: true });
      await symlink(`usr/${name}`, from);
    }
  }
}

async function place(tree: string, file: RootfsFile): Promise<void> {
  const path = join(tree, file.path);
  if (!path.startsWith(`${tree}/`)) throw new TypeError(`${file.path} lies outside of the root filesystem`);
  await mkdir(dirname(path), { recursive: true });
  await rm(path, { force: true });
  if ('target' in file) return await symlink(file.target, path);
  await writeFile(path, file.data);
  await chmod(path, file.mode); // Not as an option of writeFile: the umask would cut it.
}

function digest(file: RootfsFile): unknown {
  if ('target' in file) return file;
  return [file.path, file.mode, createHash('sha256').update(file.data).digest('hex')];
}

async function makeSquashfs(tree: string, image: string, compression: 'none' | 'zstd', signal: AbortSignal) {
  const how =
    compression === 'none' ? ['-noI', '-noD', '-noF', '-noX'] : ['-comp', 'zstd', '-Xcompression-level', '15'];
  const same = ['-all-root', '-mkfs-time', '0', '-all-time', '0', '-no-xattrs', '-no-exports'];
  await runHostProgram('mksquashfs', [tree, image, '-noappend', '-quiet', '-no-progress', ...same, ...how], { signal });
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
