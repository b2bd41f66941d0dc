import { createHash } from 'node:crypto';
import type { Manifest } from '../../src/content/manifest.ts';
import { importFile } from '../../src/import/import-file.ts';
import type { PackStore } from '../../src/store/pack-store.ts';
import { seededBytes } from './random.ts';

/** What the works bring into a store, and the proof that it is there. */
export interface Artifact {
  readonly content: Buffer;
  readonly sha256: string;
  readonly manifest: Manifest;
}

/** An artifact of `bytes` bytes that follow from `seed`, imported into the `store` that gives it away. */
export async function importSeeded(
  seed: string,
  bytes: number,
  store: PackStore,
  { signal }: { signal: AbortSignal },
): Promise<Artifact> {
  const content = seededBytes(seed, bytes);
  const sha256 = createHash('sha256').update(content).digest('hex');
  async function* once() {
    yield content;
  }
  return { content, sha256, manifest: await importFile(once(), store, { signal }) };
}
