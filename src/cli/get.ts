import { resolve } from 'node:path';
import type { Command } from 'commander';
import { whole } from '../admin/received-file.ts';
import { formatBytes } from '../observe/progress.ts';
import { addVerb, perform } from './session.ts';

interface GetFlags {
  readonly output: string;
  readonly origin?: string;
  /** Absolute: the agent may run elsewhere. */
  readonly seed: readonly string[];
}

export function addGet(program: Command): void {
  addVerb(program, 'get', {
    summary: 'fetch an artifact from whoever has it, verified, into a file',
    examples: [
      'get production -o rootfs.squashfs',
      'get production:kernel -o vmlinuz',
      'get bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi -o file',
      'get production -o rootfs.squashfs --origin http://files.example.net/rootfs.squashfs',
      'get production -o rootfs.new --seed rootfs.old --seed /dev/sda2',
    ],
  })
    .argument('<name>', 'a CID, a channel (its rootfs), or CHANNEL:kernel|initramfs|rootfs')
    .requiredOption('-o, --output <file>', 'appears when all of it has arrived')
    .option('--origin <url>', 'the same file on a plain http(s) server, asked for what no peer has')
    .option(
      '--seed <path>',
      'a file or block device that may hold parts of it, used before anybody is asked; may be given again',
      (path: string, before: readonly string[]) => [...before, resolve(path)],
      [] as readonly string[],
    )
    .action(async (name: string, { output, origin, seed }: GetFlags, command: Command) => {
      await perform(command, async (session) => {
        const operations = await session.operations();
        const file = resolve(output);
        const input = { name, seed: [...seed], ...(origin !== undefined && { origin }) };
        const result = await whole(file, (write) => operations.get(input, { ...session.options, write }));
        const peers = Object.entries(result.from ?? {}).map(([peer, bytes]) => `${formatBytes(bytes)} from ${peer}`);
        if (result.seeded)
          peers.unshift(`${formatBytes(result.seeded)} from ${seed.length === 1 ? 'the seed' : 'seeds'}`);
        const from = peers.length > 0 ? `, ${peers.join(', ')}` : '';
        const text = `${file}  ${formatBytes(result.size)}  sha256 ${result.sha256}${from}`;
        return { result: { ...result, output: file }, text };
      });
    });
}
