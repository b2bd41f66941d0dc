import { createHash, randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { type GetResult, OperationError } from '../admin/operations.ts';
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

type Write = (bytes: Uint8Array) => Promise<void>;

/** The file appears in one step with all its bytes on disk, or not at all. */
async function whole(file: string, fill: (write: Write) => Promise<GetResult>): Promise<GetResult> {
  const part = `${file}.${randomBytes(4).toString('hex')}.part`;
  const hash = createHash('sha256');
  try {
    await using handle = await create(part, file);
    const result = await fill(async (bytes) => {
      hash.update(bytes);
      await handle.writeFile(bytes);
    });
    const sha256 = hash.digest('hex');
    if (sha256 !== result.sha256) {
      throw new OperationError('REFUSED', `the agent sent bytes with sha256 ${sha256}, and says ${result.sha256}`);
    }
    await handle.sync();
    await rename(part, file);
    return result;
  } finally {
    await rm(part, { force: true });
  }
}

async function create(part: string, file: string): Promise<FileHandle> {
  try {
    return await open(part, 'wx', 0o666);
  } catch (cause) {
    throw new OperationError('FAILED', `${file} cannot be written: ${(cause as Error).message}`, { cause });
  }
}
