import { readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { OperationError } from '../admin/operations.ts';
import { formatBytes } from '../observe/progress.ts';
import { addVerb, perform } from './session.ts';

interface InitramfsFlags {
  readonly kernel: string;
  readonly ticketKey?: string[];
  readonly output: string;
  readonly module?: string[];
  readonly busybox?: string;
  readonly compression: 'zstd' | 'gzip' | 'none';
  readonly cache: string;
}

const collect = (value: string, before: string[] = []) => [...before, value];

export function addImage(program: Command): void {
  const image = program.command('image').description('build what machines boot');
  addVerb(image, 'initramfs', {
    summary: 'build the initramfs that fetches, checks and mounts a release’s rootfs',
    examples: [
      'image initramfs --kernel linux-image-amd64 --ticket-key /etc/bootmesh/keys/ticket.pub -o initramfs',
      'image initramfs --kernel /lib/modules/6.1.0-56-amd64 -o initramfs    # trusts this node’s own fleet',
    ],
  })
    .option(
      '--kernel <name>',
      'a directory of modules, a kernel’s .deb file, or a Debian metapackage',
      `/lib/modules/${release()}`,
    )
    .option('--ticket-key <file>', 'a fleet’s ticket.pub; may be repeated (default: of the keys in --data)', collect)
    .requiredOption('-o, --output <file>', 'the finished file; replaced in one step')
    .option('--module <name>', 'a further kernel module that must be inside; may be repeated', collect)
    .option('--busybox <file>', 'a statically linked busybox (default: /bin/busybox)')
    .option('--cache <directory>', 'where downloaded packages are kept', '/var/cache/bootmesh')
    .addOption(new Option('--compression <how>').choices(['zstd', 'gzip', 'none']).default('zstd'))
    .action(async (flags: InitramfsFlags, command: Command) => {
      await perform(command, async (session) => {
        const keys = flags.ticketKey ?? [await ownTicketKey(await session.config())];
        const ticketKeys = await Promise.all(keys.map(readKey));
        const [{ findKernel }, { buildInitramfs }] = await Promise.all([
          import('../image/debian-kernel.ts'),
          import('../image/initramfs.ts'),
        ]);
        const { signal } = session;
        const note = (sentence: string) => session.note(sentence);
        const kernel = await findKernel(flags.kernel, { cache: resolve(flags.cache), onProgress: note }, { signal });
        const options = {
          modules: kernel.modules,
          ticketKeys,
          output: resolve(flags.output),
          compression: flags.compression,
          extraModules: flags.module ?? [],
          onProgress: note,
          ...(flags.busybox !== undefined && { busybox: flags.busybox }),
        };
        const result = await buildInitramfs(options, { signal });
        const text = `${result.output}  ${formatBytes(result.size)}, ${result.modules.length} modules`;
        return { result: { ...result, kernel: kernel.vmlinuz }, text };
      });
    });
}

async function ownTicketKey({ data, keys }: { data: string; keys?: string | undefined }): Promise<string> {
  return join(keys ?? join(data, 'fleet-keys'), 'ticket.pub');
}

async function readKey(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    const advice = 'name the fleet’s ticket.pub with --ticket-key, or the data directory that has its keys with --data';
    throw new OperationError('NOT_FOUND', `no ticket key at ${file} (${(cause as Error).message}): ${advice}`, {
      cause,
    });
  }
}
