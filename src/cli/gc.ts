import type { Command } from 'commander';
import { formatBytes } from '../observe/progress.ts';
import { addVerb, perform } from './session.ts';

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
