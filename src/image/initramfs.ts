import { access, mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip, gzip, constants as zlibConstants, zstdCompress, zstdDecompress } from 'node:zlib';
import { type CpioEntry, writeCpio } from './cpio.ts';
import { hostProgramBytes, runHostProgram } from './host-program.ts';
import { ModuleError, readModuleTable, resolveModules } from './kernel-modules.ts';

export interface InitramfsOptions {
  /** Directory of one kernel's modules, with its modules.dep: `/lib/modules/6.1.0-56-cloud-amd64`. */
  readonly modules: string;
  /** The fleet's ticket keys, each the text of a signify public key file; a ticket signed by any of them is good. */
  readonly ticketKeys: readonly string[];
  /** Where the finished file goes; it is replaced in one step. */
  readonly output: string;
  /** Modules beside loop, squashfs and overlay that must be there. @default [] */
  readonly extraModules?: readonly string[];
  /** Modules to take along where this kernel has them. @default the usual network cards, and erofs */
  readonly optionalModules?: readonly string[];
  /** A statically linked busybox with wget, udhcpc and switch_root. @default '/bin/busybox' */
  readonly busybox?: string;
  /** signify, with its shared libraries as ldd finds them. @default '/usr/bin/signify-openbsd' */
  readonly signify?: string;
  /** Kernels before 5.9 know only gzip. @default 'zstd' */
  readonly compression?: 'zstd' | 'gzip' | 'none';
  readonly onProgress?: (sentence: string) => void;
}

export interface Initramfs {
  readonly output: string;
  /** Bytes of the file. */
  readonly size: number;
  /** Module files inside, in the order in which they are loaded. */
  readonly modules: readonly string[];
  /** Optional modules that this kernel has in no form. */
  readonly missing: readonly string[];
}

/** Without these no machine of ours comes up: squashfs root, RAM overlay, loop device. */
const REQUIRED_MODULES: readonly string[] = ['loop', 'squashfs', 'overlay'];

/** Network cards (virtual ones first) and erofs. Kernels for virtual machines lack most of the real ones. */
const OPTIONAL_MODULES: readonly string[] = [
  ...['virtio_pci', 'virtio_mmio', 'virtio_net', 'e1000', 'e1000e', 'vmxnet3', 'hv_netvsc', 'xen_netfront', 'ena'],
  ...['igb', 'igc', 'ixgbe', 'i40e', 'ice', 'r8169', 'realtek', 'tg3', 'bnxt_en', 'atlantic'],
  ...['af_packet', 'ipv6', 'erofs'],
];

const SIGNIFY_KEY = /^untrusted comment: [^\n]*\n([A-Za-z0-9+/]+=*)\n?$/;
/** "Ed", 8 bytes of key number, 32 bytes of Ed25519 public key. */
const SIGNIFY_KEY_BYTES = 42;

/** What was handed in cannot become an initramfs; `code` says which part. */
export class InitramfsError extends Error {
  override readonly name = 'InitramfsError';
  readonly code: 'BAD_KEY' | 'MISSING_FILE' | 'NOT_STATIC';
  constructor(code: 'BAD_KEY' | 'MISSING_FILE' | 'NOT_STATIC', message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

/**
 * Builds the initramfs of a diskless machine: busybox, signify, a kernel's modules, the fleet's ticket keys, and
 * init.sh with fetch.sh, which get the rootfs. The same inputs give the same bytes.
 * @throws InitramfsError, ModuleError (a required or extra module is missing), HostProgramError
 */
export async function buildInitramfs(
  options: InitramfsOptions,
  { signal }: { signal: AbortSignal },
): Promise<Initramfs> {
  const progress = options.onProgress ?? (() => {});
  const modules = await chooseModules(options);
  progress(`${modules.load.length} kernel modules from ${options.modules}`);
  const entries = [
    ...skeleton(),
    ...keyEntries(options.ticketKeys),
    ...(await moduleEntries(options.modules, modules.load, signal)),
    ...(await programEntries(options, signal)),
    file('init', 0o755, await asset('init.sh')),
    file('etc/bootmesh/fetch.sh', 0o644, await asset('fetch.sh')),
    file('etc/bootmesh/udhcpc.sh', 0o755, await asset('udhcpc.sh')),
  ];
  signal.throwIfAborted();
  const packed = await compressed(writeCpio(entries), options.compression ?? 'zstd');
  await mkdir(dirname(options.output), { recursive: true });
  await writeFile(`${options.output}.part`, packed);
  await rename(`${options.output}.part`, options.output);
  progress(`initramfs of ${(packed.length / 1e6).toFixed(1)} MB written to ${options.output}`);
  return { output: options.output, size: packed.length, modules: modules.load, missing: modules.missing };
}

async function chooseModules(options: InitramfsOptions) {
  const dependencies = await readInput(join(options.modules, 'modules.dep'), 'run depmod for this kernel first');
  const builtin = await readInput(join(options.modules, 'modules.builtin'), 'is this a directory of kernel modules?');
  const table = readModuleTable(dependencies.toString('utf8'), builtin.toString('utf8'));
  const required = [...REQUIRED_MODULES, ...(options.extraModules ?? [])];
  const needed = resolveModules(table, required);
  if (needed.missing.length > 0) throw new ModuleError(needed.missing, options.modules);
  return resolveModules(table, [...(options.optionalModules ?? OPTIONAL_MODULES), ...required]);
}

function skeleton(): CpioEntry[] {
  const directories = ['proc', 'sys', 'dev', 'run', 'newroot', 'bin', 'sbin', 'usr/bin', 'usr/sbin', 'tmp'];
  return [
    ...directories.map((path): CpioEntry => ({ kind: 'directory', path, mode: 0o755 })),
    // The kernel opens these for init before anything is mounted.
    { kind: 'character', path: 'dev/console', mode: 0o600, major: 5, minor: 1 },
    { kind: 'character', path: 'dev/null', mode: 0o666, major: 1, minor: 3 },
  ];
}

function keyEntries(keys: readonly string[]): CpioEntry[] {
  if (keys.length === 0) throw new InitramfsError('BAD_KEY', 'an initramfs needs at least one ticket key of the fleet');
  return keys.map((key, index) => {
    const bytes = Buffer.from(SIGNIFY_KEY.exec(key)?.[1] ?? '', 'base64');
    if (bytes.length !== SIGNIFY_KEY_BYTES || bytes.toString('latin1', 0, 2) !== 'Ed') {
      throw new InitramfsError('BAD_KEY', `ticket key ${index + 1} is not the text of a signify public key file`);
    }
    return file(`etc/bootmesh/keys/${index}.pub`, 0o644, Buffer.from(key.endsWith('\n') ? key : `${key}\n`));
  });
}

/** Module files as plain `.ko`: busybox's insmod cannot be relied on to unpack them. */
async function moduleEntries(directory: string, load: readonly string[], signal: AbortSignal): Promise<CpioEntry[]> {
  const entries = await Promise.all(
    load.map(async (path) => {
      const packed = await readInput(join(directory, path), 'stale modules.dep?');
      const plain = path.replace(/\.(gz|xz|zst)$/, '');
      return file(`lib/modules/${plain}`, 0o644, await unpackedModule(join(directory, path), packed, signal));
    }),
  );
  const list = entries.map(({ path }) => `/${path}\n`).join('');
  return [...entries, file('etc/bootmesh/modules', 0o644, Buffer.from(list))];
}

async function unpackedModule(path: string, packed: Buffer, signal: AbortSignal): Promise<Uint8Array> {
  if (path.endsWith('.gz')) return await promisify(gunzip)(packed);
  if (path.endsWith('.zst')) return await promisify(zstdDecompress)(packed);
  if (path.endsWith('.xz')) return await hostProgramBytes('xz', ['--decompress', '--stdout', path], { signal });
  return packed;
}

async function programEntries(options: InitramfsOptions, signal: AbortSignal): Promise<CpioEntry[]> {
  const busybox = options.busybox ?? '/bin/busybox';
  const signify = options.signify ?? '/usr/bin/signify-openbsd';
  const program = await readInput(busybox, "install Debian's package busybox-static, or name another");
  // The name of the dynamic loader stands in the first page of every program that needs one.
  if (program.subarray(0, 4096).includes('/ld-')) {
    throw new InitramfsError(
      'NOT_STATIC',
      `${busybox} needs shared libraries; install Debian's package busybox-static`,
    );
  }
  const entries = [
    file('bin/busybox', 0o755, program),
    file('usr/bin/signify-openbsd', 0o755, await readInput(signify, "install Debian's package signify-openbsd")),
  ];
  for (const library of await sharedLibraries(signify, signal)) {
    entries.push(file(library.slice(1), 0o755, await readInput(library, 'ldd named it')));
  }
  return entries;
}

/** Absolute paths from ldd: `libbsd.so.0 => /lib/…/libbsd.so.0 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`. */
async function sharedLibraries(program: string, signal: AbortSignal): Promise<string[]> {
  const listing = await runHostProgram('ldd', [program], { signal });
  return [...listing.matchAll(/(?:=>\s+|^\s+)(\/\S+)\s+\(0x/gm)].flatMap((match) => match[1] ?? []);
}

function file(path: string, mode: number, data: Uint8Array): CpioEntry {
  return { kind: 'file', path, mode, data };
}

async function readInput(path: string, hint: string): Promise<Buffer> {
  try {
    await access(path);
    if ((await stat(path)).isFile()) return await readFile(path);
  } catch (cause) {
    throw new InitramfsError('MISSING_FILE', `cannot read ${path}: ${hint}`, cause);
  }
  throw new InitramfsError('MISSING_FILE', `${path} is not a file: ${hint}`);
}

/** A shell script that lies beside this file, in the source tree as in the published package. */
async function asset(name: string): Promise<Buffer> {
  return await readFile(new URL(`./${name}`, import.meta.url));
}

async function compressed(bytes: Uint8Array, how: 'zstd' | 'gzip' | 'none'): Promise<Uint8Array> {
  if (how === 'none') return bytes;
  if (how === 'gzip') return await promisify(gzip)(bytes, { level: 9 });
  // The kernel's unpacker takes windows up to 8 MiB; level 15 stays below that.
  const params = { [zlibConstants.ZSTD_c_compressionLevel]: 15, [zlibConstants.ZSTD_c_checksumFlag]: 1 };
  return await promisify(zstdCompress)(bytes, { params });
}
