import { createHash } from 'node:crypto';
import { addressNumber, addressText } from './ipv4.ts';

export interface Lease {
  readonly address: string;
  /** Whose it is, as `classify` writes hardware addresses. */
  readonly mac: string;
  /** offered: held for a client that was offered it; bound: acknowledged; declined: somebody else uses it. */
  readonly state: 'offered' | 'bound' | 'declined';
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

export interface LeaseTableOptions {
  /** First and last address, both included. */
  readonly from: string;
  readonly to: string;
  /** Addresses of the pool that must not be given out: the nodes' own. @default none */
  readonly reserved?: (address: string) => boolean;
}

/**
 * Which client has which address. Pure state, at most one entry per address of the pool; the caller brings the clock
 * (ms since 1970). A client's address comes from a rendezvous hash over the pool, so that nodes that never spoke to
 * each other choose the same one.
 */
export class LeaseTable {
  readonly #first: number;
  readonly #last: number;
  readonly #reserved: (address: string) => boolean;
  readonly #byAddress = new Map<string, Lease>();
  readonly #byMac = new Map<string, string>();
  #turn = 0;

  constructor({ from, to, reserved }: LeaseTableOptions) {
    this.#first = addressNumber(from);
    this.#last = addressNumber(to);
    this.#reserved = reserved ?? (() => false);
  }

  get size(): number {
    return this.#byAddress.size;
  }

  contains(address: string): boolean {
    const number = addressNumber(address);
    return number >= this.#first && number <= this.#last && !this.#reserved(address);
  }

  /** The client's running lease, offered ones included. */
  of(mac: string, now: number): Lease | undefined {
    const address = this.#byMac.get(mac);
    return address === undefined ? undefined : this.#running(address, now);
  }

  /** True when `mac` may have `address`: it is of the pool, and nobody else's. */
  isFree(address: string, mac: string, now: number): boolean {
    if (!this.contains(address)) return false;
    const lease = this.#running(address, now);
    return lease === undefined || (lease.mac === mac && lease.state !== 'declined');
  }

  /**
   * The address for a client: the one it has, else the free one that ranks highest for it. When all are taken, offers
   * that were never taken up go first. Undefined when the pool is full.
   */
  choose(mac: string, now: number): string | undefined {
    const own = this.of(mac, now);
    if (own !== undefined && own.state !== 'declined') return own.address;
    return this.#best(mac, (address) => this.#running(address, now) === undefined) ?? this.#oldestOffer();
  }

  /** Writes a lease down, in place of the client's previous one. */
  hold(lease: Lease): void {
    const previous = this.#byMac.get(lease.mac);
    if (previous !== undefined && previous !== lease.address) this.#byAddress.delete(previous);
    const displaced = this.#byAddress.get(lease.address);
    if (displaced !== undefined && this.#byMac.get(displaced.mac) === lease.address) this.#byMac.delete(displaced.mac);
    this.#byAddress.set(lease.address, lease);
    if (lease.state !== 'declined') this.#byMac.set(lease.mac, lease.address);
  }

  /** A lease is given back by its client; others cannot. */
  release(address: string, mac: string): boolean {
    const lease = this.#byAddress.get(address);
    if (lease?.mac !== mac || lease.state === 'declined') return false;
    this.#byAddress.delete(address);
    this.#byMac.delete(mac);
    return true;
  }

  /**
   * Takes over what another node granted. When it granted our client's address to another, all nodes decide alike:
   * a bound lease stands against an offered one, and between two bound ones the client that ranks the address higher.
   */
  adopt(lease: Lease, now: number): boolean {
    if (!this.contains(lease.address)) return false;
    const ours = this.#running(lease.address, now);
    if (ours !== undefined && ours.mac !== lease.mac && !yields(ours, lease)) return false;
    if (ours?.mac === lease.mac && ours.state === 'bound' && lease.state === 'offered') return false;
    this.hold(lease);
    return true;
  }

  /** The bound leases, for the disk. */
  bound(now: number): Lease[] {
    return [...this.#byAddress.values()].filter(({ state, expiresAt }) => state === 'bound' && expiresAt > now);
  }

  /** The next few bound leases, going round: what one heartbeat tells. */
  nextTurn(count: number, now: number): Lease[] {
    const all = this.bound(now);
    const start = all.length === 0 ? 0 : this.#turn % all.length;
    this.#turn = start + count;
    return [...all.slice(start), ...all.slice(0, start)].slice(0, count);
  }

  #running(address: string, now: number): Lease | undefined {
    const lease = this.#byAddress.get(address);
    if (lease === undefined || lease.expiresAt > now) return lease;
    this.#byAddress.delete(address);
    if (this.#byMac.get(lease.mac) === address) this.#byMac.delete(lease.mac);
    return undefined;
  }

  #best(mac: string, free: (address: string) => boolean): string | undefined {
    const seed = macSeed(mac);
    let best = -1;
    let found: string | undefined;
    for (let number = this.#first; number <= this.#last; number++) {
      const score = mix(seed, number);
      if (score <= best) continue;
      const address = addressText(number);
      if (this.#reserved(address) || !free(address)) continue;
      best = score;
      found = address;
    }
    return found;
  }

  #oldestOffer(): string | undefined {
    const offers = [...this.#byAddress.values()].filter(({ state }) => state === 'offered');
    return offers.sort((a, b) => a.expiresAt - b.expiresAt)[0]?.address;
  }
}

function yields(ours: Lease, theirs: Lease): boolean {
  if (ours.state !== theirs.state) return ours.state === 'offered';
  const number = addressNumber(ours.address);
  return mix(macSeed(theirs.mac), number) > mix(macSeed(ours.mac), number);
}

function macSeed(mac: string): number {
  return createHash('sha256').update(mac).digest().readUInt32BE(0);
}

/** A cheap 32 bit hash (murmur3's finaliser): a pool of 65,536 is ranked within a millisecond or so. */
function mix(seed: number, number: number): number {
  let hash = (seed ^ number) >>> 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
