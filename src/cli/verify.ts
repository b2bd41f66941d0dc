import type { Command } from 'commander';
import { formatBytes } from '../observe/progress.ts';
import { addVerb, exitCodes, perform } from './session.ts';

export function addVerify(program: Command): void {
  addVerb(program, 'verify', {
    summary: 'hash every stored chunk again; damage is named, dropped, and fetched again when it is needed',
    examples: ['verify', 'verify --json'],
  }).action(async (_flags: unknown, command: Command) => {
    await perform(command, async (session) => {
      const result = await (await session.operations()).verify({}, session.options);
      const { chunks, bytes, damaged } = result;
      const lines = damaged.map(({ cid, file, offset }) => `damaged: ${cid} at ${file}:${offset}`);
      const head = `${chunks} chunks of ${formatBytes(bytes)} read, ${damaged.length} damaged`;
      return { result, text: [...lines, head].join('\n'), exitCode: damaged.length > 0 ? exitCodes.REFUSED : 0 };
    });
  });
}
