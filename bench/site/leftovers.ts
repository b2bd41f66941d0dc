import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { labStatus } from '../../src/lab/lab-control.ts';
import { labDown } from '../../src/lab/lab-down.ts';

/** What the directories of scenes start with. */
export const SCENE_PREFIX = 'bm-bench-';

/** Removes the scenes in `directory` whose bench was killed before it could: namespaces, agents and files. */
export async function removeLeftovers(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!name.startsWith(SCENE_PREFIX)) continue;
    const scene = join(directory, name);
    // A scene that is just being made has no state yet, and is `down`.
    if ((await labStatus(join(scene, 'lab'))).state !== 'broken') continue;
    await labDown(join(scene, 'lab'));
    await rm(scene, { recursive: true, force: true });
  }
}
