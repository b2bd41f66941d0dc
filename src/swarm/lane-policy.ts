import { readFileSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { multiaddr } from '@multiformats/multiaddr';
import { LANE_BITS } from '../lane/lane.ts';
import { LanePort } from '../lane/lane-port.ts';
import type { Log } from '../observe/log.ts';

export interface LaneOptions {
  /** TLS 1.3 with neighbours. @default true */
  readonly tls: boolean;
  /** Plain TCP where nobody else is on the way: WireGuard, trusted segments, and `trusted`. @default true */
  readonly plain: boolean;
  /** TCP port for both; 0: any that is free. @default 0 */
  readonly port: number;
  /** Networks in CIDR notation where everybody is trusted not to listen or to meddle. @default none */
  readonly trusted: readonly string[];
  /** Do this peer and we share a segment that the fleet trusts? @default no */
  onTrustedSegment(peerId: string): boolean;
}

export const LANE_DEFAULTS: LaneOptions = {
  tls: true,
  plain: true,
  port: 0,
  trusted: [],
  onTrustedSegment: () => false,
};

/** A peer from which wrong bytes came by the plain lane has to use another for so long, milliseconds. */
const DISTRUST_MS = 3_600_000;
/** Such peers remembered, the oldest forgotten first. */
const MAX_DISTRUSTED = 1024;

/** Which fast lanes may be used with whom. */
export class LanePolicy {
  readonly #options: LaneOptions;
  readonly #near: (peerId: string) => boolean;
  readonly #trusted: BlockList;
  /** Peer → until when, by `performance.now()`. */
  readonly #distrusted = new Map<string, number>();

  /** Throws `RangeError` for a network that is none. */
  constructor(near: (peerId: string) => boolean, options: Partial<LaneOptions> = {}) {
    this.#options = { ...LANE_DEFAULTS, ...options };
    this.#near = near;
    this.#trusted = blockList(this.#options.trusted);
  }

  /** Fast lanes for a peer whose libp2p connection comes from `host` (an IP address), as bits. */
  allowed(peerId: string, host: string | undefined): number {
    if (host === undefined || isIP(host) === 0) return 0;
    const { tls, plain } = this.#options;
    const tlsBit = tls && this.#near(peerId) ? LANE_BITS.tls : 0;
    return tlsBit | (plain && this.#trusts(peerId, host) ? LANE_BITS.plain : 0);
  }

  /** Wrong bytes came from the peer by the plain lane: who changed them cannot be told there, by another lane it can. */
  distrust(peerId: string): void {
    this.#distrusted.delete(peerId);
    this.#distrusted.set(peerId, performance.now() + DISTRUST_MS);
    const [oldest] = this.#distrusted.keys();
    if (this.#distrusted.size > MAX_DISTRUSTED && oldest !== undefined) this.#distrusted.delete(oldest);
  }

  /** Listens on the addresses of `listen` (multiaddrs). Undefined where there is no address, or no lane to offer. */
  async open(listen: readonly string[], log: Log): Promise<LanePort | undefined> {
    const { tls, plain, port } = this.#options;
    const hosts = [...new Set(listen.flatMap((address) => multiaddr(address).getComponents()[0]?.value ?? []))];
    if (hosts.length === 0 || !(tls || plain)) return undefined;
    try {
      return await LanePort.open({ log }, { hosts, port });
    } catch (error) {
      if (port !== 0) log.warn('lane port not free, another one is taken', { port, error });
    }
    try {
      return await LanePort.open({ log }, { hosts, port: 0 });
    } catch (error) {
      log.warn('no lane port: neighbours cannot open fast lanes to this node', { error });
      return undefined;
    }
  }

  #trusts(peerId: string, host: string): boolean {
    if ((this.#distrusted.get(peerId) ?? 0) > performance.now()) return false;
    if (contains(this.#trusted, host)) return true;
    const interfaces = onLink(host);
    if (interfaces.some(isWireGuard)) return true;
    // The description names a segment; that the connection does not take another way is for us to see.
    return interfaces.length > 0 && this.#options.onTrustedSegment(peerId);
  }
}

/** Interfaces of ours with an address in whose network `host` is. */
function onLink(host: string): string[] {
  return Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) => {
    const networks = addresses.flatMap(({ cidr }) => (cidr === null || /\/(32|128)$/.test(cidr) ? [] : [cidr]));
    return contains(blockList(networks), host) ? [name] : [];
  });
}

/** Linux says so of kernel WireGuard; a userspace one's network has to be configured as trusted. */
function isWireGuard(name: string): boolean {
  try {
    return readFileSync(`/sys/class/net/${name}/uevent`, 'utf8').includes('DEVTYPE=wireguard');
  } catch {
    return false;
  }
}

function blockList(networks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', prefix = ''] = network.split('/');
    const family = isIP(address);
    if (family === 0 || !/^\d+$/.test(prefix)) throw new RangeError(`${network} is no network in CIDR notation`);
    list.addSubnet(address, Number(prefix), family === 4 ? 'ipv4' : 'ipv6');
  }
  return list;
}

function contains(list: BlockList, host: string): boolean {
  return list.check(host, isIP(host) === 4 ? 'ipv4' : 'ipv6');
}
