import type { Command } from 'commander';
import type { BootLine, FaultLine, StatusResult } from '../agent/operations.ts';
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
    ...(status.faults ?? []).map((fault) => ['FAULT', faulty(fault)]),
    ...status.addresses.map((address) => ['address', address]),
  ];
  return lines.map(([name = '', value]) => `${name.padEnd(9)}${value}`).join('\n');
}

function faulty({ kind, peerId, what, count, lastAt }: FaultLine): string {
  const says = {
    fork: `the fleet's online key signed two states of one release ${what}, seen at`,
    rollback: `the fleet's online key signed an older state as a newer one (${what}), seen at`,
    refused: `release metadata refused (${what}) of`,
  } as const;
  return `${says[kind]} ${peerId}, ${count} times, last ${lastAt}`;
}

function booting({ mode, role, release }: BootLine): string {
  if (mode === 'off') return mode;
  return `${mode}, ${role}, ${release === undefined ? 'no complete release' : `${release.channel} ${release.version}`}`;
}

/** Never 100 % before all of it is here. */
function share(held: number): string {
  return `${Math.floor(held * 100)} %`;
}
