import type { Command } from 'commander';
import { formatBytes } from '../observe/progress.ts';
import { addVerb, perform } from './session.ts';

export function addPin(program: Command): void {
  addVerb(program, 'pin', {
    summary: 'fetch an artifact, keep it, and serve it',
    examples: [
      'pin bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi',
      'pin bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi --name base-image',
    ],
  })
    .argument('<cid>', 'see `bootmesh ls`')
    .option('--name <name>', 'what `unpin` calls it (default: the CID)')
    .action(async (cid: string, { name }: { name?: string }, command: Command) => {
      await perform(command, async (session) => {
        const operations = await session.operations();
        const result = await operations.pin({ cid, ...(name !== undefined && { name }) }, session.options);
        return { result, text: `${result.cid} is pinned as ${result.name}` };
      });
    });
}

export function addUnpin(program: Command): void {
  addVerb(program, 'unpin', {
    summary: 'let go of an artifact; its chunks go when room is needed',
    examples: ['unpin base-image'],
  })
    .argument('<name>', 'see `bootmesh ls`')
    .action(async (name: string, _flags: unknown, command: Command) => {
      await perform(command, async (session) => {
        const result = await (await session.operations()).unpin({ name }, session.options);
        return { result, text: `${result.cid} is no longer pinned as ${result.name}` };
      });
    });
}

export function addGc(program: Command): void {
  addVerb(program, 'gc', {
    summary: 'drop what no pin and no followed release holds, now',
    examples: ['gc', 'gc --json'],
  }).action(async (_flags: unknown, command: Command) => {
    await perform(command, async (session) => {
      const result = await (await session.operations()).gc({}, session.options);
      const { evictedChunks, evictedBytes, freedBytes } = result;
      const text = `${evictedChunks} chunks of ${formatBytes(evictedBytes)} dropped, ${formatBytes(freedBytes)} freed`;
      return { result, text };
    });
  });
}
