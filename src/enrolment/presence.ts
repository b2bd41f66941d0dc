import { setTimeout as delay } from 'node:timers/promises';
import { type BindingFacts, MAX_PLACES, sealBinding } from '../fleet/binding.ts';
import { renewAt } from '../fleet/certificate.ts';
import { type Identity, signingKeyOf } from '../fleet/identity.ts';
import { type MemberNetwork, MemberSync } from '../fleet/member-sync.ts';
import type { MemberChange } from '../fleet/members.ts';
import { openStatement, StatementRefused } from '../fleet/statement.ts';
import { readTrustList, TrustListInvalid } from '../fleet/trust-list.ts';
import type { Log } from '../observe/log.ts';
import type { KnownMember } from '../swarm/membership.ts';
import { IssuerReach, type IssuerReachOptions } from './issuer-reach.ts';
import type { Certified, Membership } from './membership.ts';

/** The swarm, as far as members come and go in it. */
export interface MemberSwarm {
  readonly documents: MemberNetwork;
  /** Multiaddrs that others may dial. */
  addresses(): string[];
  /** Peer ids of all that are connected, members or not any more. */
  connected(): string[];
  meet(member: KnownMember): void;
  /** It is dialled no more; a connection to it may go on. */
  forgo(peerId: string): void;
  part(peerId: string, why: string): void;
  offend(peerId: string): void;
}

/** The WireGuard interface, as far as others must know of it, and it of them. */
export interface MemberOverlay {
  /** Where its packets may be sent. */
  endpoints(): string[];
  /** An address of the overlay itself, which follows from the certificate and is not told. */
  isInside(address: string): boolean;
  /** Somebody joined, left or moved. */
  update(): void;
}

interface Deps {
  readonly membership: Membership;
  readonly certified: Certified;
  readonly identity: Identity;
  readonly swarm: MemberSwarm;
  readonly overlay?: MemberOverlay | undefined;
  readonly log: Log;
}

export interface PresenceOptions {
  /** Addresses, expiry and the own certificate are looked at this often, milliseconds. @default 10000 */
  readonly lookMs: number;
  readonly reach: Partial<IssuerReachOptions>;
}

const RENEWAL = 'certificate/renew';
const CERTIFICATE_BYTES = 1024;
const ASK_MS = 5_000;
/** A peer that did not renew the certificate is asked again after so long, milliseconds. */
const AGAIN_MS = 60_000;
const MAX_ASKED = 1024;
const MEET_MS = 100;

/**
 * A node's place among the members while it runs: tells them where it is, hears where they are, meets who joins, parts
 * from who is revoked, and has its own certificate renewed by any issuer that it is connected to.
 */
export class Presence implements AsyncDisposable {
  readonly sync: MemberSync;
  readonly #deps: Deps;
  readonly #over = new AbortController();
  readonly #reach: IssuerReach;
  readonly #running: Promise<void>;
  #told = '';
  /** Peers that did not renew the certificate, and when they were asked. */
  readonly #asked = new Map<string, number>();
  #saidDue = false;
  #meeting: NodeJS.Timeout | undefined;
  /** Whom the swarm was told to keep connected to, and where. */
  readonly #met = new Map<string, string>();

  constructor(deps: Deps, { lookMs = 10_000, reach = {} }: Partial<PresenceOptions> = {}) {
    this.#deps = deps;
    const { swarm, certified, log } = deps;
    const { members, store } = certified;
    this.sync = new MemberSync({
      network: swarm.documents,
      members,
      store,
      log: log.with({ room: 'fleet' }),
      onChange: (change) => this.#changed(change),
      blame: (peer) => swarm.offend(peer),
    });
    deps.membership.onShown = (change) => this.sync.heard(change);
    swarm.documents.serve(RENEWAL, async (_, from) => this.#renew(from));
    const { peerId } = deps.identity;
    const issuerKey = certified.issuer?.privateKey;
    this.#reach = new IssuerReach(
      { network: swarm.documents, peerId, issuerKey, trust: () => members.trust, log },
      reach,
    );
    if (deps.membership.revoked !== undefined) this.#leave();
    this.#running = this.#run(lookMs);
  }

  /** What the fleet's signed metadata says of membership now. */
  judge(json: unknown): void {
    try {
      const list = readTrustList(json);
      if (list.fleetId !== this.#deps.certified.members.trust.fleetId)
        throw new TrustListInvalid('is of another fleet');
      this.sync.judge(list);
    } catch (error) {
      if (!(error instanceof TrustListInvalid)) throw error;
      this.#deps.log.error('the fleet’s new trust list is not understood: the one before stays', { error });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort(new DOMException('the agent stops', 'AbortError'));
    clearTimeout(this.#meeting);
    await this.#running;
    await this.sync[Symbol.asyncDispose]();
    await this.#deps.certified.store[Symbol.asyncDispose]();
  }

  async #run(lookMs: number): Promise<void> {
    const { signal } = this.#over;
    while (!signal.aborted) {
      await this.#look().catch((error: unknown) => {
        if (!signal.aborted) this.#deps.log.error('membership was not looked after', { error });
      });
      await delay(lookMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #look(): Promise<void> {
    const { membership, swarm, overlay, log } = this.#deps;
    const site = membership.siteInNeed;
    membership.issuerInReach = site !== undefined && (await this.#reach.look(site, this.#over.signal));
    for (const peerId of swarm.connected()) {
      if (membership.member(peerId) === undefined) this.#part(peerId, 'its certificate is over');
    }
    overlay?.update();
    await this.#tell();
    const missed = membership.isDue() && !(await this.#ask());
    const again = missed && this.#saidDue;
    this.#saidDue = missed;
    if (!missed || again) return;
    const { own, revoked } = membership;
    if (revoked !== undefined) return;
    if (own === undefined) log.error('this node is no member now: it serves what it has to nobody but this machine');
    else log.warn('no issuer is reached: the certificate is not renewed yet', { notAfter: own.notAfter });
  }

  /** Says where this node is, when that has changed. */
  async #tell(): Promise<void> {
    const { certified, membership, identity, swarm, overlay } = this.#deps;
    if (membership.own === undefined) return;
    const inside = (address: string) => overlay?.isInside(address.split('/')[2] ?? '') ?? false;
    const told = swarm.addresses().filter((address) => !inside(address));
    const addresses = outside(told).slice(0, MAX_PLACES);
    const endpoints = overlay?.endpoints() ?? [];
    const text = placesOf({ addresses, endpoints });
    if (text === this.#told) return;
    const before = certified.members.binding(identity.peerId);
    if (before !== undefined && placesOf(before) === text) {
      this.#told = text;
      return;
    }
    const sequence = Math.max(Date.now(), (before?.sequence ?? 0) + 1);
    const facts = { peerId: identity.peerId, addresses, endpoints, sequence };
    await this.sync.say(sealBinding(facts, signingKeyOf(identity), certified.members.trust.fleetId).bytes);
    // What could not be written is said again with the next look.
    this.#told = text;
  }

  /** True when this node has a new certificate. */
  async #ask(): Promise<boolean> {
    const { certified, membership, identity, swarm, log } = this.#deps;
    // No certificate helps, not even by its own issuer.
    if (certified.members.fault(identity.peerId) === 'revoked') return false;
    if (certified.issuer !== undefined) {
      await this.sync.say(membership.renewed(certified.issuer).bytes);
      return true;
    }
    if (this.#asked.size > MAX_ASKED) this.#asked.clear();
    for (const peer of swarm.documents.peers()) {
      if (performance.now() - (this.#asked.get(peer) ?? Number.NEGATIVE_INFINITY) < AGAIN_MS) continue;
      this.#asked.set(peer, performance.now());
      const signal = AbortSignal.any([this.#over.signal, AbortSignal.timeout(ASK_MS)]);
      const options = { signal, maxBytes: CERTIFICATE_BYTES };
      try {
        const bytes = await swarm.documents.ask(peer, RENEWAL, options);
        if (bytes === undefined || openStatement(bytes).kind !== 'certificate') continue;
        await this.sync.say(bytes);
        if (!membership.isDue()) return true;
      } catch (error) {
        this.#over.signal.throwIfAborted();
        log.debug('a peer did not renew the certificate', { peer, error });
      }
    }
    return false;
  }

  /** On a node that admits: the next certificate of a member that asks for itself, as it is. */
  async #renew(peerId: string): Promise<Uint8Array | undefined> {
    const { certified, membership, log } = this.#deps;
    const current = certified.members.member(peerId);
    if (certified.issuer === undefined || current === undefined) return undefined;
    // Who asks all the time makes no news for all the others.
    if (certified.now() < renewAt(current)) return current.bytes;
    try {
      const next = membership.renew(certified.issuer, current);
      await this.sync.say(next.bytes);
      log.info('certificate renewed', { peer: peerId, name: next.name, notAfter: next.notAfter });
      return next.bytes;
    } catch (error) {
      if (!(error instanceof StatementRefused)) throw error;
      log.info('certificate not renewed', { peer: peerId, reason: error.reason });
      return undefined;
    }
  }

  #changed({ joined, renewed, left, bound }: MemberChange): void {
    const { membership, certified, overlay, log } = this.#deps;
    overlay?.update();
    for (const { peerId, name, site } of joined) log.debug('member joined', { peer: peerId, name, site });
    for (const { peerId } of left) {
      if (peerId === this.#deps.identity.peerId && membership.revoked !== undefined) this.#leave();
      const fault = certified.members.fault(peerId);
      // A description may list it all the same.
      if (membership.member(peerId) === undefined)
        this.#part(peerId, `no member any more: ${fault ?? 'not vouched for'}`);
    }
    if (joined.length + renewed.length + left.length > 0 || bound !== undefined) this.#meetSoon();
  }

  /** Many may join in one moment: whom to meet is decided once they have. */
  #meetSoon(): void {
    this.#meeting ??= setTimeout(() => {
      this.#meeting = undefined;
      const contacts = this.#deps.membership.contacts();
      const wanted = new Set(contacts.map(({ peerId }) => peerId));
      for (const peerId of this.#met.keys()) {
        if (wanted.has(peerId)) continue;
        this.#met.delete(peerId);
        this.#deps.swarm.forgo(peerId);
      }
      for (const contact of contacts) {
        const places = contact.addresses.join(' ');
        if (this.#met.get(contact.peerId) === places) continue;
        this.#met.set(contact.peerId, places);
        this.#deps.swarm.meet(contact);
      }
    }, MEET_MS);
  }

  /** This node was revoked: it says so, once in each run, and dials nobody by certificate any more. */
  #leave(): void {
    const { membership, certified, swarm, log } = this.#deps;
    const { issuer: by, at, why } = membership.revoked ?? {};
    const advice = 'to join again, stop the agent, move identity.key away, and join with a new token';
    log.error('this machine was revoked: it is no member of the fleet any more', { by, at, why, advice });
    for (const { peerId } of certified.members.certificates) {
      if (!membership.isDescribed(peerId)) swarm.forgo(peerId);
    }
  }

  #part(peerId: string, why: string): void {
    this.#deps.log.info('parted from a peer', { peer: peerId, why });
    this.#deps.swarm.part(peerId, why);
  }
}

function placesOf({ addresses, endpoints }: Pick<BindingFacts, 'addresses' | 'endpoints'>): string {
  return [...addresses, ...endpoints].join(' ');
}

/** Without peer ids, and without the loopback's unless there are no others. */
function outside(addresses: readonly string[]): string[] {
  const plain = [...new Set(addresses.map((address) => address.replace(/\/p2p\/[^/]+$/, '')))];
  const others = plain.filter((address) => !/^\/(?:ip4\/127\.|ip6\/::1\/|ip6\/fe80:)/.test(address));
  return others.length > 0 ? others : plain;
}
