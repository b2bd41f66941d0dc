import { PROBE_CLASS } from './client.ts';
import { messageType, option, readAddress, readType, write } from './option.ts';
import type { DhcpPacket } from './packet.ts';

/** undecided: still looking. server: addresses and boot files. proxy: boot files only, addresses come from elsewhere. */
export type DhcpRole = 'undecided' | 'server' | 'proxy';

export interface RoleOptions {
  readonly mode: 'auto' | 'server' | 'proxy';
  /** Without a pool there is nothing to serve: auto never becomes a server. */
  readonly hasPool: boolean;
  /** How long auto looks before it decides, ms. */
  readonly discoveryMs: number;
  /** How long a foreign server counts after its last sign, ms. @default 300000 */
  readonly foreignLifeMs?: number;
}

const FOREIGN_LIFE_MS = 300_000;

/**
 * Whether this node gives out addresses. Pure state; the caller brings a monotonic clock in ms.
 *
 *     undecided → server   nobody answered while it looked, and there is a pool
 *     undecided → proxy    a foreign server was seen, or there is no pool
 *     server    → proxy    at once when a foreign server is seen
 *     proxy     → server   no sign of a foreign server for five minutes of looking
 */
export class Role {
  readonly #options: RoleOptions;
  readonly #startedAt: number;
  #seen: Sighting | undefined;
  #told: Sighting | undefined;

  constructor(options: RoleOptions, now: number) {
    this.#options = options;
    this.#startedAt = now;
  }

  /** A DHCP server that is no member of the fleet showed itself here. */
  sawForeign(address: string, now: number): void {
    this.#seen = { address, at: now };
  }

  /** A neighbour saw one. Kept apart from what this node saw: hearsay that is passed on would never end. */
  heardOfForeign(address: string, now: number): void {
    this.#told = { address, at: now };
  }

  /** The foreign server that counts now. */
  foreign(now: number): string | undefined {
    return this.foreignSeen(now) ?? this.#fresh(this.#told, now);
  }

  /** The foreign server that this node saw itself: what neighbours are told. */
  foreignSeen(now: number): string | undefined {
    return this.#fresh(this.#seen, now);
  }

  at(now: number): DhcpRole {
    const { mode, hasPool, discoveryMs } = this.#options;
    if (mode !== 'auto') return mode;
    if (this.foreign(now) !== undefined || !hasPool) return 'proxy';
    return now - this.#startedAt < discoveryMs ? 'undecided' : 'server';
  }

  #fresh(sighting: Sighting | undefined, now: number): string | undefined {
    const life = this.#options.foreignLifeMs ?? FOREIGN_LIFE_MS;
    return sighting !== undefined && now - sighting.at <= life ? sighting.address : undefined;
  }
}

interface Sighting {
  readonly address: string;
  readonly at: number;
}

/**
 * The server that a message proves to exist: an address that was offered or acknowledged (not a mere proxy's, those
 * carry none), or a client's choice among offers. Undefined for all other messages.
 */
export function serverShown(packet: DhcpPacket): string | undefined {
  const type = readType(packet);
  const server = readAddress(packet, option.serverIdentifier);
  if (server === undefined || server === '0.0.0.0') return undefined;
  if (packet.op === 2) {
    const gives = type === messageType.offer || type === messageType.ack;
    return gives && packet.yiaddr !== '0.0.0.0' ? server : undefined;
  }
  return type === messageType.request ? server : undefined;
}

/**
 * A DISCOVER of our own that makes other servers show themselves. It asks for a broadcast answer, because it has no
 * address to be answered at; bootmesh nodes know its vendor class and keep silent.
 */
export function probeDiscover(chaddr: Uint8Array, xid: number): DhcpPacket {
  return {
    op: 1,
    htype: 1,
    hops: 0,
    xid,
    secs: 0,
    broadcast: true,
    ciaddr: '0.0.0.0',
    yiaddr: '0.0.0.0',
    siaddr: '0.0.0.0',
    giaddr: '0.0.0.0',
    chaddr,
    sname: '',
    file: '',
    options: new Map<number, Uint8Array>([
      [option.messageType, write.byte(messageType.discover)],
      [option.vendorClass, write.text(PROBE_CLASS)],
      [option.parameterList, Uint8Array.of(option.subnetMask, option.router)],
    ]),
  };
}
