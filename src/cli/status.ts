import type { Command } from 'commander';
import type { BootLine, ClockLine, FaultLine, RatesLine, RevokedLine, StatusResult } from '../admin/results.ts';
import { formatRate } from '../fleet/quantity.ts';
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
    ...(status.rates ? [['rates', capped(status.rates)]] : []),
    ...(status.background ? [['prefetch', prefetching(status.background)]] : []),
    ...(status.revoked ? [['REVOKED', `${revokedBy(status.revoked)}; ${REJOIN}`]] : []),
    ...(status.clock ? [['CLOCK', wrong(status.clock)]] : []),
    ...(status.faults ?? []).map((fault) => ['FAULT', faulty(fault)]),
    ...status.addresses.map((address) => ['address', address]),
  ];
  return lines.map(([name = '', value]) => `${name.padEnd(9)}${value}`).join('\n');
}

function capped({ down, up, uplink, share }: RatesLine): string {
  const rate = (way: string, bytes: number | undefined) => (bytes === undefined ? [] : [`${bits(bytes)} ${way}`]);
  const site = [...rate('down', uplink?.down), ...rate('up', uplink?.up)];
  const own = [...rate('down', share?.down), ...rate('up', share?.up)];
  const parts = [[...rate('down', down), ...rate('up', up)].join(', ')];
  if (site.length > 0) parts.push(`uplink of the site ${site.join(', ')} (this node now ${own.join(', ')})`);
  return parts.filter((part) => part !== '').join('; ');
}

function bits(bytesPerSecond: number): string {
  return formatRate(Math.round((bytesPerSecond * 8) / 1000) * 1000);
}

function prefetching({ open, opens }: NonNullable<StatusResult['background']>): string {
  if (open) return 'within its hours';
  return `paused${opens === undefined ? '' : ` until ${opens}`}; what a machine waits for goes on`;
}

const REJOIN = 'to join again, stop the agent, move identity.key away, and join with a new token';

/** By whom, when and why; what an issuer wrote is shown without what a terminal obeys. */
export function revokedBy({ by, at, why }: RevokedLine): string {
  return `by ${by} at ${at}${why === undefined ? '' : ` (${why.replaceAll(/[^\x20-\x7e]/g, '')})`}`;
}

function wrong({ fault, shows, signed }: ClockLine): string {
  if (fault === 'ahead') {
    return `shows ${shows}, and a key of the fleet signed at ${signed}: set the wrong one of the two`;
  }
  return `shows ${shows}, which is over: ${signed} counts instead; set it, or see the log if it is right`;
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
