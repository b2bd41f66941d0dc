import type { Command } from 'commander';
import type { LsResult } from '../admin/results.ts';
import { formatBytes } from '../observe/progress.ts';
import { addVerb, perform } from './session.ts';

export function addLs(program: Command): void {
  addVerb(program, 'ls', {
    summary: 'list channels with their artifacts, and pins',
    examples: ['ls', 'ls --json'],
  }).action(async (_flags: unknown, command: Command) => {
    await perform(command, async (session) => {
      const result = await (await session.operations()).ls({}, session.options);
      return { result, text: describe(result) };
    });
  });
}

function describe({ channels, pins }: LsResult): string {
  const lines: string[] = [];
  for (const { channel, version, held = 0, artifacts } of channels) {
    const share = `${Math.floor(held * 100)} % here`;
    lines.push(version === undefined ? `${channel}  no release yet` : `${channel}  version ${version}, ${share}`);
    for (const { name, cid, size } of artifacts) lines.push(`  ${name.padEnd(12)} ${cid}  ${formatBytes(size)}`);
  }
  if (pins.length > 0) lines.push('pins');
  for (const { name, cid, size, held } of pins) {
    const shown = size === undefined ? '' : `  ${formatBytes(size)}`;
    lines.push(`  ${name}  ${name === cid ? '' : cid}${shown}${held === 1 ? '  complete' : ''}`);
  }
  return lines.join('\n') || 'nothing is followed and nothing pinned';
}
