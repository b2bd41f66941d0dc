import type { ConnectionGater, MultiaddrConnection } from '@libp2p/interface';
import { getNetConfig } from '@libp2p/utils';
import type { Porter } from '../limits/porter.ts';
import type { Vouching } from './vouched.ts';

/** What the swarm knows of a member. */
export interface Member {
  readonly site: string;
  readonly name?: string;
}

export interface KnownMember extends Member {
  readonly peerId: string;
  /** Multiaddrs, with or without `/p2p/<peerId>`. */
  readonly addresses: readonly string[];
}

/** Who belongs to the fleet. The fleet's roster satisfies it; everyone it does not know is a stranger. */
export interface Membership {
  member(peerId: string): Member | undefined;
  /** Members known beforehand: whom to dial, and whom to expect in our site. */
  readonly members?: Iterable<KnownMember>;
  /** Whether a member is to be met at this IP address, wherever it was heard of. @default at any */
  mayDial?(peerId: string, host: string): boolean;
  /** What is shown to each other on every connection, where membership is proven by that. */
  readonly vouching?: Vouching | undefined;
}

/** Members only, and no banned ones: checked as soon as Noise has proved who is there, before any protocol. */
export function gate(
  admits: (peer: string) => boolean,
  porter: Porter,
  mayDial: NonNullable<Membership['mayDial']>,
): ConnectionGater {
  const isRefused = (peer: { toString(): string }, connection: MultiaddrConnection) => {
    if (!admits(peer.toString())) return true;
    porter.knows(getNetConfig(connection.remoteAddr).host, connection);
    return false;
  };
  return {
    denyDialPeer: (peer) => !admits(peer.toString()),
    denyDialMultiaddr: (address) => {
      const parts = address.getComponents();
      const peer = parts.findLast(({ name }) => name === 'p2p')?.value;
      const host = parts.find(({ name }) => name === 'ip4' || name === 'ip6')?.value;
      return peer !== undefined && host !== undefined && !mayDial(peer, host);
    },
    denyInboundConnection: (connection) => {
      porter.met(getNetConfig(connection.remoteAddr).host, connection);
      return false;
    },
    denyInboundEncryptedConnection: isRefused,
    denyOutboundEncryptedConnection: isRefused,
    filterMultiaddrForPeer: (peer) => admits(peer.toString()),
  };
}
