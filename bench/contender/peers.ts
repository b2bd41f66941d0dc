import type { Contender } from '../site/contender.ts';
import { aria2 } from './aria2.ts';
import { bareNode } from './bare-node.ts';
import { libtorrent, libtorrentSuper, libtorrentTuned } from './libtorrent.ts';
import { nginx } from './nginx.ts';

const PEERS = [nginx, aria2, libtorrent, libtorrentTuned, libtorrentSuper];
/** No rivals, but something to compare with: only where they are named. */
const YARDSTICKS = [bareNode];

/**
 * The other programs that `--peers` names: `all`, `none`, or names with commas between them.
 * @throws {RangeError} with the known names, when one is unknown.
 */
export function peersNamed(text: string): Contender[] {
  if (text === 'none') return [];
  if (text === 'all') return PEERS;
  const known = [...PEERS, ...YARDSTICKS];
  return text.split(',').map((name) => {
    const peer = known.find((each) => each.name === name);
    if (peer) return peer;
    throw new RangeError(`--peers knows ${known.map((each) => each.name).join(', ')}, all and none, not '${name}'`);
  });
}

/** Those that can run here; says what the others lack. */
export async function installed(peers: readonly Contender[], say: (line: string) => void): Promise<Contender[]> {
  const ready: Contender[] = [];
  for (const peer of peers) {
    const missing = await peer.missing();
    if (missing === undefined) ready.push(peer);
    else say(`${peer.name} is left out: it needs ${missing} (apt-get install)`);
  }
  return ready;
}
