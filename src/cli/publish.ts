import { access, constants } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { OperationError } from '../admin/operations.ts';
import { formatBytes } from '../observe/progress.ts';
import { addVerb, perform } from './session.ts';

interface PublishFlags {
  readonly channel: string;
  readonly kernel: string;
  readonly initramfs: string;
  readonly rootfs?: string;
  readonly cmdline: string;
}

export function addPublish(program: Command): void {
  addVerb(program, 'publish', {
    summary: 'sign the next release of a channel, and offer it to the fleet',
    examples: [
      'publish --channel production --kernel vmlinuz --initramfs initramfs --rootfs rootfs.squashfs',
      "publish --channel testing --kernel vmlinuz --initramfs initrd.img --rootfs live.squashfs \\\n      --cmdline 'root=live:{{artifact:rootfs}} rd.neednet=1 ip=dhcp'",
    ],
  })
    .requiredOption('--channel <name>', 'channel that the release is the next version of')
    .requiredOption('--kernel <file>', 'kernel image')
    .requiredOption('--initramfs <file>', 'made by `bootmesh image initramfs`, or your own')
    .option('--rootfs <file>', 'root file system; one without compression moves least between versions')
    .option(
      '--cmdline <template>',
      'kernel command line; {{neighbour}}, {{mac}}, {{artifact:rootfs}}, … are filled in',
      '',
    )
    .action(async ({ channel, cmdline, ...paths }: PublishFlags, command: Command) => {
      await perform(command, async (session) => {
        const { kernel, initramfs, rootfs } = paths;
        const files = {
          kernel: await readable('kernel', kernel),
          initramfs: await readable('initramfs', initramfs),
          ...(rootfs !== undefined && { rootfs: await readable('rootfs', rootfs) }),
        };
        const operations = await session.operations({ create: true });
        const result = await operations.publish({ channel, cmdline, ...files }, session.options);
        const lines = result.artifacts.map(
          ({ name, cid, size }) => `  ${name.padEnd(10)} ${cid}  ${formatBytes(size)}`,
        );
        const head = `${channel} version ${result.version}: ${formatBytes(result.payloadBytes)} of distinct chunks`;
        return { result, text: [head, ...lines].join('\n') };
      });
    });
}

/** The agent may run elsewhere: it is given absolute paths. */
async function readable(option: string, path: string): Promise<string> {
  const file = resolve(path);
  try {
    await access(file, constants.R_OK);
  } catch (cause) {
    throw new OperationError('NOT_FOUND', `--${option} ${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
  return file;
}
