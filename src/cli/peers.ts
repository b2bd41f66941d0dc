import type { Command } from 'commander';
import type { PeerLine, PingLine } from '../admin/results.ts';
import { formatBytes } from '../observe/progress.ts';
import { addVerb, exitCodes, perform } from './session.ts';

export function addPeers(program: Command): void {
  addVerb(program, 'peers', {
    summary: 'whom this node knows, and what it has exchanged with them',
    examples: ['peers', 'peers --json'],
  }).action(async (_flags: unknown, command: Command) => {
    await perform(command, async (session) => {
      const result = await (await session.operations()).peers({}, session.options);
      return { result, text: result.peers.length === 0 ? 'no peers' : result.peers.map(describe).join('\n') };
    });
  });
}

function describe(peer: PeerLine): string {
  const connected = peer.connected ? 'connected' : 'not connected';
  const state = peer.bannedUntil === undefined ? connected : `banned until ${peer.bannedUntil}`;
  const traffic = `${formatBytes(peer.bytesIn)} in, ${formatBytes(peer.bytesOut)} out`;
  const rtt = peer.rttMs === undefined ? '' : `, ${Math.round(peer.rttMs)} ms`;
  const lane = peer.lane === undefined ? '' : `, ${peer.lane} lane`;
  const path = peer.path === undefined ? '' : `, ${wayOf(peer)}`;
  const name = (peer.name ?? '').padEnd(12);
  return `${name} ${peer.peerId}  ${peer.site}  ${state}${path}${rtt}${lane}  ${traffic}  ${peer.address ?? ''}`.trimEnd();
}

export function addPing(program: Command): void {
  addVerb(program, 'ping', {
    summary: 'ask members for one chunk each: whether it comes, by which way, and how fast',
    examples: ['ping', 'ping shop-1 shop-2 --json'],
  })
    .argument('[member...]', 'names or peer ids (default: all that are connected)')
    .action(async (members: readonly string[], _flags: unknown, command: Command) => {
      await perform(command, async (session) => {
        const input = members.length === 0 ? {} : { members: [...members] };
        const result = await (await session.operations()).ping(input, session.options);
        const lost = result.pings.some(({ outcome }) => outcome === 'unreachable');
        const text = result.pings.length === 0 ? 'no member is connected' : result.pings.map(describePing).join('\n');
        return { result, text, exitCode: lost ? exitCodes.UNREACHABLE : 0 };
      });
    });
}

function describePing({ name, peerId, site, outcome, why, bytes = 0, ms = 0, lane, ...way }: PingLine): string {
  const who = `${(name ?? peerId).padEnd(12)} ${site}`;
  if (outcome === 'unreachable') return `${who}  not reached: ${why}`;
  const what =
    outcome === 'chunk' ? `${formatBytes(bytes)} in ${ms} ms` : 'connected, and has nothing that is held here';
  return `${who}  ${wayOf(way)}${lane === undefined ? '' : `, ${lane} lane`}  ${what}`;
}

function wayOf({ path, via }: Pick<PeerLine, 'path' | 'via'>): string {
  return path === 'gateway' ? `through ${via ?? 'a gateway'}` : (path ?? 'unknown way');
}
