import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { Chunker, type ChunkSizes, DEFAULT_CHUNK_SIZES } from '../src/content/chunker.ts';
import { record, signed } from './record/result.ts';

export const summary = 'bytes to move to the next version of a package tree, against the number of chunks';

const execute = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));

/** Debian packages whose archive and security archive hold different versions: two states of one installed tree. */
const USERLAND = [
  'libc6 libssl3 openssl libsystemd0 systemd udev libpython3.11-stdlib python3.11-minimal perl-modules-5.36',
  'libcurl4 curl git openssh-client openssh-server sudo samba-libs bind9-libs nodejs libnode108',
].flatMap((line) => line.split(' '));

/** A kernel is a new package for each ABI: the two newest of this name are taken. */
const KERNEL = /^linux-image-6\.1\.0-([0-9]+)-cloud-amd64$/;

/** Data blocks stored as they are, and the two compressors that are used most. */
const FORMS = {
  plain: ['-noI', '-noD', '-noF', '-noX'],
  zstd: ['-comp', 'zstd'],
  xz: ['-comp', 'xz'],
} as const;

const AVERAGES = [16, 32, 64, 128, 256, 512].map((kib) => kib * 1024);

interface Row extends ChunkSizes {
  readonly tree: string;
  readonly form: string;
  readonly imageBytes: number;
  readonly chunks: number;
  readonly moved: number;
  readonly movedChunks: number;
  /** moved / imageBytes */
  readonly share: number;
}

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const { values } = parseArgs({
    args: argv,
    options: {
      json: { type: 'boolean', default: false },
      cache: { type: 'string', default: join(root, '.cache/chunk-size') },
    },
  });
  const trees = { kernel: await kernels(values.cache, signal), userland: await userland(values.cache, signal) };
  const rows: Row[] = [];
  for (const [tree, [before, after]] of Object.entries(trees)) {
    for (const form of ['plain', 'zstd', 'xz'] as const) {
      const images = [await image(before, form, signal), await image(after, form, signal)] as const;
      rows.push(...(await measure(tree, form, images, signal)));
    }
  }
  for (const line of table(rows)) console.log(line);
  const packages = Object.fromEntries(
    Object.entries(trees).map(([name, pair]) => [name, pair.map((tree) => tree.packages)]),
  );
  const result = signed({ bench: 'chunk-size', defaults: DEFAULT_CHUNK_SIZES, packages, rows });
  await record('chunk-size', result);
  if (values.json) console.log(JSON.stringify(result));
}

interface Tree {
  readonly directory: string;
  /** name=version */
  readonly packages: readonly string[];
}

/** The two newest kernel packages that apt offers, unpacked, older first. */
export async function kernels(cache: string, signal: AbortSignal): Promise<[Tree, Tree]> {
  const { stdout } = await execute('apt-cache', ['search', '--names-only', KERNEL.source], { signal });
  const names = stdout.split('\n').map((line) => line.split(' ')[0] ?? '');
  const known = names.filter((name) => KERNEL.test(name)).sort((a, b) => abi(a) - abi(b));
  const [before, after] = known.slice(-2);
  if (!before || !after) throw new Error(`apt knows fewer than two packages like ${KERNEL.source}: run apt-get update`);
  return [
    await unpack(cache, [await candidate(before, signal)], signal),
    await unpack(cache, [await candidate(after, signal)], signal),
  ];
}

function abi(name: string): number {
  return Number(KERNEL.exec(name)?.[1]);
}

async function userland(cache: string, signal: AbortSignal): Promise<[Tree, Tree]> {
  const before: string[] = [];
  const after: string[] = [];
  for (const name of USERLAND) {
    const known = await versions(name, signal);
    if (known.length < 2) continue;
    after.push(`${name}=${known[0]}`);
    before.push(`${name}=${known[1]}`);
  }
  if (before.length === 0) throw new Error('apt knows one version of each package: enable the security archive');
  return [await unpack(cache, before, signal), await unpack(cache, after, signal)];
}

async function candidate(name: string, signal: AbortSignal): Promise<string> {
  const [newest] = await versions(name, signal);
  return `${name}=${newest}`;
}

/** Newest first. */
async function versions(name: string, signal: AbortSignal): Promise<string[]> {
  const { stdout } = await execute('apt-cache', ['madison', name], { signal });
  return [...new Set(stdout.split('\n').flatMap((line) => line.split('|')[1]?.trim() ?? []))];
}

/** Downloads the packages and unpacks them into one directory, which is named by what is in it and kept. */
async function unpack(cache: string, packages: string[], signal: AbortSignal): Promise<Tree> {
  const name = createHash('sha256').update(packages.join('\n')).digest('hex').slice(0, 16);
  const directory = join(cache, name);
  const tree = { directory: join(directory, 'tree'), packages };
  if (await stat(join(directory, 'done')).catch(() => undefined)) return tree;
  console.error(`downloading ${packages.length} packages to ${directory}`);
  await rm(directory, { recursive: true, force: true });
  await mkdir(tree.directory, { recursive: true });
  await execute('apt-get', ['download', ...packages], { cwd: directory, signal });
  for (const file of await readdir(directory)) {
    if (file.endsWith('.deb'))
      await execute('dpkg-deb', ['--extract', join(directory, file), tree.directory], { signal });
  }
  await writeFile(join(directory, 'done'), '');
  return tree;
}

/** A squashfs of the tree, beside it. */
export async function image(tree: Tree, form: keyof typeof FORMS, signal: AbortSignal): Promise<string> {
  const file = `${tree.directory}.${form}.squashfs`;
  if (await stat(file).catch(() => undefined)) return file;
  const temporary = `${file}.new`;
  await rm(temporary, { force: true });
  const common = ['-noappend', '-no-progress', '-all-root', '-mkfs-time', '0'];
  await execute('mksquashfs', [tree.directory, temporary, ...common, ...FORMS[form]], { signal });
  await execute('mv', [temporary, file], { signal });
  return file;
}

async function measure(tree: string, form: string, [before, after]: readonly [string, string], signal: AbortSignal) {
  const [old, new_] = [await readFile(before), await readFile(after)];
  const rows: Row[] = [];
  for (const average of AVERAGES) {
    for (const divisor of [4, 2]) {
      signal.throwIfAborted();
      const sizes = { min: average / divisor, average, max: Math.min(average * 4, 1024 * 1024) };
      const have = cutAll(old, sizes);
      const want = cutAll(new_, sizes);
      const missing = [...want.unique].filter(([name]) => !have.unique.has(name));
      const moved = missing.reduce((sum, [, size]) => sum + size, 0);
      const imageBytes = new_.length;
      const share = Number((moved / imageBytes).toFixed(4));
      rows.push({ tree, form, ...sizes, imageBytes, chunks: want.count, movedChunks: missing.length, moved, share });
    }
  }
  return rows;
}

function cutAll(bytes: Buffer, sizes: ChunkSizes): { count: number; unique: Map<string, number> } {
  const chunker = new Chunker(sizes);
  const unique = new Map<string, number>();
  let count = 0;
  for (let start = 0; start < bytes.length; count++) {
    const end = chunker.cut(bytes, start, bytes.length);
    unique.set(createHash('sha256').update(bytes.subarray(start, end)).digest('latin1'), end - start);
    start = end;
  }
  return { count, unique };
}

function table(rows: readonly Row[]): string[] {
  const kib = (bytes: number) => `${bytes / 1024}`;
  const cells = rows.map((row) => [
    row.tree,
    row.form,
    `${kib(row.min)}/${kib(row.average)}/${kib(row.max)}`,
    (row.imageBytes / 1e6).toFixed(1),
    String(row.chunks),
    String(row.movedChunks),
    (row.moved / 1e6).toFixed(1),
    row.share.toFixed(3),
  ]);
  const head = ['tree', 'image', 'min/avg/max KiB', 'image MB', 'chunks', 'moved', 'moved MB', 'share'];
  return [head, ...cells].map((line) => line.map((cell, i) => (i < 3 ? cell.padEnd(17) : cell.padStart(9))).join(' '));
}
