import type { Command } from 'commander';
import type { PeerLine } from '../admin/results.ts';
import { formatBytes } from '../observe/progress.ts';
import { addVerb, perform } from './session.ts';

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
  const name = (peer.name ?? '').padEnd(12);
  return `${name} ${peer.peerId}  ${peer.site}  ${state}${rtt}${lane}  ${traffic}  ${peer.address ?? ''}`.trimEnd();
}
