import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { HostProgramError, runHostProgram } from './host-program.ts';

/** One package file in the cache, as apt verified it against the archive's signed lists. */
export interface DebianPackage {
  /** `libc6_2.36-9+deb12u14_amd64.deb`; an epoch's colon is written `%3a`. */
  readonly file: string;
  readonly sha256: string;
}

export interface DebianOptions {
  /** Directory for downloads and what is made of them; safe to delete at any time. */
  readonly cache: string;
  readonly onProgress?: (sentence: string) => void;
}

const savedSet = z.array(z.object({ file: z.string().regex(/^[A-Za-z0-9.+~%_-]+\.deb$/), sha256: z.hash('sha256') }));

/** Package names as Debian policy section 5.6.1 has them. */
const PACKAGE_NAME = /^[a-z0-9][a-z0-9+.-]+$/;

/**
 * The named packages and, with `dependencies`, everything they depend on (not what they recommend), as files in
 * `<cache>/packages`. What a set of names resolves to is remembered in the cache: the same names give the same packages
 * until the cache is deleted, and a second call needs neither network nor apt.
 * @throws HostProgramError when apt cannot resolve or download them.
 */
export async function debianPackages(
  names: readonly string[],
  dependencies: boolean,
  options: DebianOptions,
  { signal }: { signal: AbortSignal },
): Promise<readonly DebianPackage[]> {
  const bad = names.find((name) => !PACKAGE_NAME.test(name));
  if (bad !== undefined) throw new TypeError(`${JSON.stringify(bad)} is not the name of a Debian package`);
  const directory = join(options.cache, 'packages');
  await mkdir(directory, { recursive: true });
  const key = createHash('sha256')
    .update(JSON.stringify([names.toSorted(), dependencies]))
    .digest('hex')
    .slice(0, 16);
  const saved = join(options.cache, `set-${key}.json`);
  const known = await readSet(saved, directory);
  if (known !== undefined) return known;
  const resolved = await withFreshLists(options, signal, async (apt) => {
    const wanted = await resolve(names, dependencies, apt, options, signal);
    options.onProgress?.(`downloading ${wanted.length} Debian packages for ${names.join(', ')}`);
    await download(wanted, directory, apt, signal);
    return wanted;
  });
  const packages: DebianPackage[] = [];
  for (const file of resolved) packages.push({ file, sha256: await sha256Of(join(directory, file), signal) });
  await writeFile(`${saved}.part`, JSON.stringify(packages, null, 1));
  await rename(`${saved}.part`, saved);
  return packages;
}

/** The one package that a metapackage such as linux-image-cloud-amd64 stands for. */
export async function realPackage(
  metapackage: string,
  pattern: RegExp,
  options: DebianOptions,
  { signal }: { signal: AbortSignal },
): Promise<string> {
  const [meta] = await debianPackages([metapackage], false, options, { signal });
  const path = join(options.cache, 'packages', meta?.file ?? '');
  const depends = await runHostProgram('dpkg-deb', ['--field', path, 'Depends'], { signal });
  const name = depends
    .split(/[,|]/)
    .map((one) => one.trim().split(' ')[0] ?? '')
    .find((one) => pattern.test(one));
  if (name === undefined) throw new TypeError(`${metapackage} depends on nothing like ${pattern}: ${depends.trim()}`);
  return name;
}

/** Unpacks packages (no maintainer script runs) into a directory, one over the other. */
export async function unpackPackages(
  packages: readonly DebianPackage[],
  directory: string,
  options: DebianOptions,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (const { file } of packages) {
    await runHostProgram('dpkg-deb', ['--extract', join(options.cache, 'packages', file), directory], { signal });
  }
}

async function readSet(path: string, directory: string): Promise<readonly DebianPackage[] | undefined> {
  try {
    const packages = savedSet.parse(JSON.parse(await readFile(path, 'utf8')));
    await Promise.all(packages.map(({ file }) => stat(join(directory, file))));
    return packages;
  } catch {
    return undefined; // Never saved, or somebody emptied the cache: resolve anew.
  }
}

/**
 * Tries with the host's package lists first. Where these are missing or too old for the archive, with fresh lists in
 * our own cache: the host's stay as they are, and no privilege is needed.
 */
async function withFreshLists<T>(
  options: DebianOptions,
  signal: AbortSignal,
  run: (apt: readonly string[]) => Promise<T>,
): Promise<T> {
  const apt = ['-o', 'APT::Sandbox::User=root', '-o', 'Debug::NoLocking=1', '-o', 'APT::Install-Recommends=0'];
  try {
    return await run(apt);
  } catch (error) {
    if (!(error instanceof HostProgramError) || error.code === 'PROGRAM_MISSING') throw error;
    options.onProgress?.('fetching package lists of our own: the host has none that will do');
  }
  const lists = join(options.cache, 'lists');
  await mkdir(join(lists, 'partial'), { recursive: true });
  const own = [...apt, '-o', `Dir::State::lists=${lists}`];
  await runHostProgram('apt-get', [...own, '-q', 'update'], { signal });
  return await run(own);
}

/**
 * File names of the packages to fetch. An empty status file makes apt resolve as if nothing were installed; an empty
 * archive directory makes it name all of them, and not leave out those that it has downloaded before.
 */
async function resolve(
  names: readonly string[],
  dependencies: boolean,
  apt: readonly string[],
  options: DebianOptions,
  signal: AbortSignal,
): Promise<string[]> {
  const status = join(options.cache, 'no-package-installed');
  await writeFile(status, '');
  const archives = join(options.cache, 'no-package-downloaded');
  await mkdir(join(archives, 'partial'), { recursive: true });
  const nothing = ['-o', `Dir::State::status=${status}`, '-o', `Dir::Cache::archives=${archives}`];
  const verb = dependencies ? [...nothing, '-y', 'install'] : ['download'];
  const listing = await runHostProgram('apt-get', [...apt, '--print-uris', ...verb, ...names], { signal });
  return [...listing.matchAll(/^'[^']+' (\S+\.deb) \d+ /gm)].flatMap((match) => match[1] ?? []).toSorted();
}

async function download(
  files: readonly string[],
  directory: string,
  apt: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const exact = files.map((file) => {
    const [name = '', version = ''] = file.split('_');
    return `${name}=${decodeURIComponent(version)}`;
  });
  // apt-get download checks every file against the lists' hashes.
  const work = await mkdtemp(join(directory, 'download-'));
  try {
    await runHostProgram('apt-get', [...apt, '-q', 'download', ...exact], { signal, cwd: work });
    for (const file of files) await rename(join(work, file), join(directory, file));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function sha256Of(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { signal })) hash.update(piece as Buffer);
  return hash.digest('hex');
}
