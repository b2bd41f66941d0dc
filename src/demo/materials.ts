import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type DebianKernel, debianKernel } from '../image/debian-kernel.ts';
import { buildDemoRootfs } from '../image/demo-rootfs.ts';
import { buildInitramfs } from '../image/initramfs.ts';

/** What the demo publishes, as files. */
export interface Materials {
  readonly kernel: string;
  /** As `uname -r` prints it. */
  readonly kernelRelease: string;
  readonly initramfs: string;
  readonly rootfs: string;
}

interface MaterialsOptions {
  /** Downloaded packages and built images that any later run can use. */
  readonly cache: string;
  /** Directory of the fleet's keys: the initramfs believes only its ticket key. */
  readonly keys: string;
  /** Where files of this run go. */
  readonly directory: string;
  readonly onProgress: (sentence: string) => void;
  /** Writes the root filesystem. @default buildDemoRootfs */
  readonly rootfs?: (
    options: { readonly cache: string; readonly output: string; readonly onProgress: (sentence: string) => void },
    times: { readonly signal: AbortSignal },
  ) => Promise<unknown>;
}

/** Debian's cloud kernel, an initramfs with this fleet's key, and a rootfs of Debian packages (about 60 MB). */
export async function makeMaterials(
  { cache, keys, directory, onProgress, rootfs: writeRootfs = buildDemoRootfs }: MaterialsOptions,
  { signal }: { readonly signal: AbortSignal },
): Promise<Materials> {
  await mkdir(cache, { recursive: true });
  const kernel: DebianKernel = await debianKernel({ cache, onProgress }, { signal });
  const initramfs = join(directory, 'initramfs.zst');
  const ticketKeys = [await readFile(join(keys, 'ticket.pub'), 'utf8')];
  await buildInitramfs({ modules: kernel.modules, ticketKeys, output: initramfs, onProgress }, { signal });
  const rootfs = join(directory, 'rootfs.squashfs');
  await writeRootfs({ cache, output: rootfs, onProgress }, { signal });
  return { kernel: kernel.vmlinuz, kernelRelease: kernel.release, initramfs, rootfs };
}
