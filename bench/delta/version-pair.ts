import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { image, kernels } from '../chunk-size.ts';
import type { Payload } from '../site/contender.ts';
import { seeded, seededBytes } from '../store-crash/random.ts';

/** Two versions of a file: the receiver has the first, and wants the second. */
export interface VersionPair {
  readonly name: string;
  /** What they are, for the record. */
  readonly what: readonly string[];
  readonly before: Payload;
  readonly after: Payload;
}

const CLUSTERS = 64;
const CHANGED = 0.05;
const INSERTIONS = 16;
const MAX_INSERTION_BYTES = 8 * 1024;

/**
 * Random bytes of which 5 % are others in the next version, in 64 clusters of one size, and 16 insertions of up to
 * 8 KiB push the rest on. Places and bytes follow from the seed.
 */
export async function randomPair(directory: string, bytes: number, seed: number): Promise<VersionPair> {
  const before = seededBytes(`delta ${seed} before`, bytes);
  const changed = Buffer.from(before);
  const random = seeded(`delta ${seed} places`);
  const cluster = Math.round((bytes * CHANGED) / CLUSTERS);
  const fresh = seededBytes(`delta ${seed} after`, cluster * CLUSTERS);
  // One in each 64th, so that no two lie upon each other.
  const stride = Math.floor(bytes / CLUSTERS);
  for (let n = 0; n < CLUSTERS; n += 1) {
    const at = n * stride + Math.floor(random() * (stride - cluster));
    changed.set(fresh.subarray(n * cluster, (n + 1) * cluster), at);
  }
  const places = Array.from({ length: INSERTIONS }, () => Math.floor(random() * bytes)).sort((a, b) => a - b);
  const parts: Buffer[] = [];
  for (const [n, at] of places.entries()) {
    const length = 1 + Math.floor(random() * MAX_INSERTION_BYTES);
    parts.push(changed.subarray(places[n - 1] ?? 0, at), seededBytes(`delta ${seed} insertion ${n}`, length));
  }
  const after = Buffer.concat([...parts, changed.subarray(places.at(-1))]);
  const what = [`${bytes} random bytes`, `5 % others in ${CLUSTERS} clusters, ${INSERTIONS} insertions, seed ${seed}`];
  return { name: 'random', what, ...(await written(directory, 'random', before, after)) };
}

/** The two newest cloud kernels that apt offers, each as an uncompressed squashfs. */
export async function kernelPair(directory: string, cache: string, signal: AbortSignal): Promise<VersionPair> {
  const trees = await kernels(cache, signal);
  const [before, after] = await Promise.all(
    trees.map(async (tree) => await readFile(await image(tree, 'plain', signal))),
  );
  if (before === undefined || after === undefined) throw new TypeError('two trees make two images');
  const what = trees.flatMap((tree) => tree.packages);
  return { name: 'kernel', what, ...(await written(directory, 'kernel', before, after)) };
}

async function written(directory: string, name: string, before: Buffer, after: Buffer) {
  const write = async (version: string, bytes: Buffer): Promise<Payload> => {
    const at = join(directory, `${name}-${version}`);
    await mkdir(at, { recursive: true });
    const path = join(at, `${name}.img`);
    await writeFile(path, bytes);
    return { path, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
  };
  return { before: await write('before', before), after: await write('after', after) };
}
