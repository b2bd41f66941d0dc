import { peerIdFromString } from '@libp2p/peer-id';
import { tryGetNetConfig } from '@libp2p/utils';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import type { Log } from '../observe/log.ts';
import { backoff } from '../schedule/backoff.ts';
import type { KnownMember } from './membership.ts';
import type { SwarmNode } from './node.ts';

interface Contact {
  readonly peerId: string;
  addresses: readonly Multiaddr[];
  /** Where discovery last saw it. */
  found: readonly Multiaddr[];
  near: boolean;
  failures: number;
  timer: NodeJS.Timeout | undefined;
  dialing: boolean;
}

/** Addresses that discovery may name for one member. */
const MAX_FOUND = 8;
/** Longest pause between two attempts, milliseconds: a neighbour that comes back is wanted at once. */
const LONGEST_NEAR_MS = 2_000;
/** After so many failures in a row nobody waits for a neighbour any more; it is still dialled. */
const GIVE_UP = 3;
const LONGEST_FAR_MS = 15_000;

/**
 * Keeps us connected to the members we know addresses of, from the roster or by discovery: dials at once, again with
 * growing, jittered pauses, and soon after a disconnect. Bounded by whom it is told to meet.
 */
export class Dialer implements Disposable {
  readonly #contacts = new Map<string, Contact>();
  readonly #abort = new AbortController();
  readonly #node: SwarmNode;
  readonly #log: Log;
  readonly #banned: (peerId: string) => boolean;
  readonly #expect: (host: string) => void;
  readonly #site: string;

  constructor(
    deps: {
      readonly node: SwarmNode;
      readonly log: Log;
      banned(peerId: string): boolean;
      /** A member may come from this IP address. */
      expect(host: string): void;
    },
    members: Iterable<KnownMember>,
    site: string,
  ) {
    this.#node = deps.node;
    this.#log = deps.log;
    this.#banned = deps.banned;
    this.#expect = deps.expect;
    this.#site = site;
    for (const member of members) this.meet(member);
    deps.node.addEventListener('peer:disconnect', (event) => {
      const contact = this.#contacts.get(event.detail.toString());
      if (contact) this.#later(contact, 50 + Math.random() * 200 + this.#courtesy(contact));
    });
    deps.node.addEventListener('peer:discovery', ({ detail: { id, multiaddrs } }) => {
      const contact = this.#contacts.get(id.toString());
      if (contact === undefined || this.#connected(contact)) return;
      contact.found = multiaddrs.slice(0, MAX_FOUND).map((address) => withPeer(address.toString(), contact.peerId));
      this.#later(contact, this.#courtesy(contact));
    });
  }

  /** Keeps us connected to the member, and knows these addresses of it from now on. */
  meet(member: KnownMember): void {
    const { peerId, site } = member;
    if (peerId === this.#node.peerId.toString()) return;
    const addresses = member.addresses.map((address) => withPeer(address, peerId));
    const hosts = addresses.flatMap((address) => tryGetNetConfig(address)?.host ?? []);
    for (const host of hosts) this.#expect(host);
    const known = this.#contacts.get(peerId);
    const contact: Contact = known ?? {
      peerId,
      addresses,
      found: [],
      near: false,
      failures: 0,
      timer: undefined,
      dialing: false,
    };
    contact.addresses = addresses;
    contact.near = site === this.#site;
    this.#contacts.set(peerId, contact);
    this.#later(contact, this.#courtesy(contact));
  }

  /** It is dialled no more. */
  forget(peerId: string): void {
    clearTimeout(this.#contacts.get(peerId)?.timer);
    this.#contacts.delete(peerId);
  }

  /** Neighbours that are connected, or that we may still reach: they may be starting just now, as we do. */
  expectedNeighbours(): string[] {
    return [...this.#contacts.values()]
      .filter((contact) => contact.near && !this.#banned(contact.peerId))
      .filter((contact) => this.#connected(contact) || (reach(contact).length > 0 && contact.failures < GIVE_UP))
      .map((contact) => contact.peerId);
  }

  [Symbol.dispose](): void {
    this.#abort.abort();
    for (const contact of this.#contacts.values()) clearTimeout(contact.timer);
  }

  /** The two ends of a pair often start together: the one with the greater id leaves the other a moment, milliseconds. */
  #courtesy({ peerId }: Contact): number {
    return this.#node.peerId.toString() > peerId ? 150 : 0;
  }

  #connected(contact: Contact): boolean {
    return this.#node.getConnections(peerIdFromString(contact.peerId)).length > 0;
  }

  #later(contact: Contact, ms: number): void {
    if (reach(contact).length === 0 || this.#abort.signal.aborted) return;
    clearTimeout(contact.timer);
    contact.timer = setTimeout(() => void this.#dial(contact), ms);
    contact.timer.unref();
  }

  async #dial(contact: Contact): Promise<void> {
    if (contact.dialing || this.#connected(contact)) return;
    contact.dialing = true;
    try {
      if (!this.#banned(contact.peerId)) {
        await this.#node.dial(reach(contact), { signal: this.#abort.signal });
        contact.failures = 0;
      }
    } catch (error) {
      contact.failures += 1;
      if (contact.failures === 1) this.#log.info('member not reached', { peer: contact.peerId, error });
    } finally {
      contact.dialing = false;
    }
    // Perhaps it was forgotten meanwhile.
    if (this.#connected(contact) || this.#contacts.get(contact.peerId) !== contact) return;
    const longest = contact.near ? LONGEST_NEAR_MS : LONGEST_FAR_MS;
    this.#later(contact, backoff(contact.failures, Math.random, { longest }));
  }
}

function reach({ addresses, found }: Contact): Multiaddr[] {
  return [...addresses, ...found];
}

function withPeer(address: string, peerId: string): Multiaddr {
  return multiaddr(address.includes('/p2p/') ? address : `${address}/p2p/${peerId}`);
}
