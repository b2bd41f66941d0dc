import type { Log } from '../observe/log.ts';
import { isTaken } from './address-probe.ts';
import { readLeases, writeLeases } from './lease-file.ts';
import { type Lease, LeaseTable } from './lease-table.ts';

/** The other nodes of the segment, as the owner of leases needs them. */
export interface LeaseNeighbours {
  /** True for addresses of members of the fleet, dead ones too. */
  isMember(address: string): boolean;
  /** Tells all that this node answers the client, and with which address. */
  claim(claim: { readonly xid: number; readonly chaddr: Uint8Array; readonly lease?: Lease }): void;
  announceLease(lease: Lease): void;
}

export interface LeaseBookDeps {
  readonly log: Log;
  readonly neighbours: LeaseNeighbours;
}

export interface LeaseBookOptions {
  /** First and last address, both included. */
  readonly pool: { readonly from: string; readonly to: string };
  /** This node's own address, never given out. */
  readonly address: string;
  readonly leaseSeconds: number;
  /** Where bound leases survive a restart. */
  readonly file: string;
}

/** An offered address is kept for its client for so long, ms. */
const OFFER_LIFE_MS = 30_000;
/** An address that somebody else uses is not tried again for so long, ms. */
const DECLINED_LIFE_MS = 600_000;
/** Addresses in use by strangers that one search skips before it gives up until the client asks again. */
const MAX_CANDIDATES = 4;

/** The leases of this node and its neighbours: looked up, probed for, granted, told to the others and kept on disk. */
export class LeaseBook {
  readonly #deps: LeaseBookDeps;
  readonly #options: LeaseBookOptions;
  readonly #table: LeaseTable;
  #unsaved = false;

  private constructor(deps: LeaseBookDeps, options: LeaseBookOptions) {
    this.#deps = deps;
    this.#options = options;
    const reserved = (address: string) => address === options.address || deps.neighbours.isMember(address);
    this.#table = new LeaseTable({ ...options.pool, reserved });
  }

  /** With the leases of the last run; without them when the file is damaged, and says so. */
  static async open(deps: LeaseBookDeps, options: LeaseBookOptions): Promise<LeaseBook> {
    const book = new LeaseBook(deps, options);
    try {
      for (const lease of await readLeases(options.file)) book.adopt(lease);
    } catch (error) {
      deps.log.warn('dhcp leases were lost, clients keep their addresses by their hash', { error });
    }
    return book;
  }

  /** The client's running lease, if any. */
  of(mac: string): Lease | undefined {
    return this.#table.of(mac, Date.now());
  }

  bound(): Lease[] {
    return this.#table.bound(Date.now());
  }

  /** A few of the bound leases, going round with each call. */
  nextTurn(count: number): Lease[] {
    return this.#table.nextTurn(count, Date.now());
  }

  /**
   * An address to offer. The client is claimed first: neighbours wait for the claim, not for our ARP.
   * Undefined when the pool is full.
   */
  async find(
    question: { readonly xid: number; readonly chaddr: Uint8Array },
    mac: string,
    { signal }: { signal: AbortSignal },
  ): Promise<string | undefined> {
    for (let tries = 0; tries < MAX_CANDIDATES; tries++) {
      const now = Date.now();
      const known = this.#table.of(mac, now);
      const address = this.#table.choose(mac, now);
      if (address === undefined) return undefined;
      const lease = known ?? ({ address, mac, state: 'offered', expiresAt: now + OFFER_LIFE_MS } as const);
      if (known === undefined) this.#table.hold(lease);
      this.#deps.neighbours.claim({ xid: question.xid, chaddr: question.chaddr, lease });
      // A known lease was probed for when it was new, here or at the neighbour that told us of it.
      if (known !== undefined || !(await isTaken(address, mac, { signal }))) return address;
      this.decline(address, mac, 'somebody answers ARP for it');
    }
    return undefined;
  }

  /** Binds `address` to the client, anew or again; undefined when it may not have it. */
  bind(mac: string, address: string): Lease | undefined {
    const now = Date.now();
    const known = this.#table.of(mac, now);
    if (known !== undefined && known.address !== address) return undefined;
    if (!this.#table.isFree(address, mac, now)) return undefined;
    const lease: Lease = { address, mac, state: 'bound', expiresAt: now + this.#options.leaseSeconds * 1000 };
    this.#table.hold(lease);
    this.#unsaved = true;
    this.#deps.neighbours.announceLease(lease);
    return lease;
  }

  /** The client's address turned out to be somebody else's. */
  decline(address: string, mac: string, reason: string): void {
    this.#table.release(address, mac);
    this.#table.hold({ address, mac, state: 'declined', expiresAt: Date.now() + DECLINED_LIFE_MS });
    this.#deps.log.warn('dhcp address is in use by another machine', { address, reason });
  }

  /** Given back by its client; what others send in its name changes nothing. */
  release(address: string, mac: string): void {
    if (!this.#table.release(address, mac)) return;
    this.#unsaved = true;
    this.#deps.neighbours.announceLease({ address, mac, state: 'bound', expiresAt: 0 });
  }

  /** Another node granted a lease, or took it back (when it is over already). */
  adopt(lease: Lease): void {
    const now = Date.now();
    if (lease.expiresAt <= now) {
      if (this.#table.release(lease.address, lease.mac)) this.#unsaved = true;
    } else if (this.#table.adopt(lease, now) && lease.state === 'bound') this.#unsaved = true;
  }

  /** Writes down what has changed since the last time. */
  async save(): Promise<void> {
    if (!this.#unsaved) return;
    this.#unsaved = false;
    await writeLeases(this.#options.file, this.bound()).catch((error) =>
      this.#deps.log.warn('dhcp leases cannot be written', { file: this.#options.file, error }),
    );
  }
}
