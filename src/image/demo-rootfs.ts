import { readFile } from 'node:fs/promises';
import type { DebianOptions } from './debian-packages.ts';
import { buildRootfs, type Rootfs } from './rootfs.ts';

/**
 * What an operator expects to find on a console; about 50 MB as an image. usr-is-merged says that our trees are, which
 * spares usrmerge and its Perl.
 */
export const DEMO_PACKAGES: readonly string[] = [
  ...['usr-is-merged', 'bash', 'coreutils', 'util-linux', 'mount', 'hostname', 'procps', 'iproute2', 'kmod'],
  ...['grep', 'sed', 'findutils', 'mawk', 'less', 'ncurses-base', 'vim-tiny', 'perl-base'],
];

/** The demo's init prints this line with the hash of the image that it found itself mounted from. */
export const DEMO_MARKER = /bootmesh-demo up rootfs_sha256=([0-9a-f]{64}) kernel=(\S+)/;

/** The demo's prompt, an unfinished line. */
export const DEMO_PROMPT = /bootmesh-demo#/;

/** The demo's root filesystem: real Debian packages, and an init that says what it was mounted from. */
export async function buildDemoRootfs(
  options: DebianOptions & {
    readonly output: string /** @default DEMO_PACKAGES */;
    readonly packages?: readonly string[];
  },
  { signal }: { signal: AbortSignal },
): Promise<Rootfs> {
  const init = await readFile(new URL('./demo-init.sh', import.meta.url));
  const root = 'root:x:0:0:root:/root:/bin/bash\n';
  return await buildRootfs(
    {
      ...options,
      packages: options.packages ?? DEMO_PACKAGES,
      files: [
        { path: 'usr/sbin/init', mode: 0o755, data: init },
        { path: 'usr/bin/sh', target: 'bash' },
        { path: 'usr/bin/awk', target: 'mawk' },
        { path: 'etc/passwd', mode: 0o644, data: root },
        { path: 'etc/group', mode: 0o644, data: 'root:x:0:\n' },
        { path: 'etc/hostname', mode: 0o644, data: 'bootmesh-demo\n' },
      ],
    },
    { signal },
  );
}
