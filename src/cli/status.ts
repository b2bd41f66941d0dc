import type { Command } from 'commander';
import type { BootLine, StatusResult } from '../agent/operations.ts';
import { formatBytes } from '../observe/progress.ts';
import { addVerb, perform } from './session.ts';

export function addStatus(program: Command): void {
  addVerb(program, 'status', {
    summary: 'what this node holds, follows and answers',
    examples: ['status', 'status --json | tail -n 1 | jq .channels'],
  }).action(async (_flags: unknown, command: Command) => {
    await perform(command, async (session) => {
      const result = await (await session.operations()).status({}, session.options);
      return { result, text: describe(result) };
    });
  });
}

function describe(status: StatusResult): string {
  const { store, boot } = status;
  const up = status.uptimeSeconds === undefined ? '' : `, up ${status.uptimeSeconds} s`;
  const lines = [
    ['node', `${status.node ?? '(no name)'}  ${status.peerId}`],
    ['site', status.site],
    ['agent', status.agent ? `running${up}` : 'not running'],
    ['data', status.data],
    ['store', `${store.chunks} chunks, ${formatBytes(store.bytes)} (${formatBytes(store.diskBytes)} on disk)`],
    ['peers', `${status.peersConnected} connected`],
    ...(boot ? [['boot', booting(boot)], ...boot.missing.map((what) => ['lacks', what])] : []),
    ...status.channels.map(({ channel, version, held = 0, stale }) => [
      'channel',
      version === undefined
        ? `${channel}: no release yet`
        : `${channel} ${version}: ${share(held)} here${stale ? ', STALE: its metadata has expired' : ''}`,
    ]),
    ...status.addresses.map((address) => ['address', address]),
  ];
  return lines.map(([name = '', value]) => `${name.padEnd(9)}${value}`).join('\n');
}

function booting({ mode, role, release }: BootLine): string {
  if (mode === 'off') return mode;
  return `${mode}, ${role}, ${release === undefined ? 'no complete release' : `${release.channel} ${release.version}`}`;
}

/** Never 100 % before all of it is here. */
function share(held: number): string {
  return `${Math.floor(held * 100)} %`;
}
