import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeMaterials } from '../../../src/demo/materials.ts';
import { Site, type SiteOptions } from '../../../src/demo/site.ts';
import { parseDescription } from '../../../src/fleet/description.ts';
import { buildSmallRootfs } from './small-rootfs.ts';

const CACHE = fileURLToPath(new URL('../../../.cache/debian', import.meta.url));
export const PIECE = 4 * 1024 * 1024;

/** For `site.publish`: a console that tests can read. */
export const CMDLINE = 'console=ttyS0 quiet';

/** A real kernel and initramfs, and a rootfs of six pieces. */
const bootable: NonNullable<SiteOptions['materials']> = (options, times) =>
  makeMaterials(
    { ...options, rootfs: (how, { signal }) => buildSmallRootfs({ ...how, fillerBytes: 5.2 * PIECE }, { signal }) },
    times,
  );

/** A site of real agents in a directory of its own, as a YAML description has it; dispose removes both. */
export async function openSite(
  description: string,
  { signal, materials = bootable }: { signal: AbortSignal; materials?: NonNullable<SiteOptions['materials']> },
): Promise<{ readonly site: Site; readonly directory: string } & AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'bm-e2e-'));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  const described = parseDescription(description, 'the test’s description');
  const options = { description: described, directory, cache: CACHE, onProgress: () => {}, materials };
  const site = stack.use(await Site.open(options, { signal }));
  const all = stack.move();
  return { site, directory, [Symbol.asyncDispose]: () => all.disposeAsync() };
}
