import type { KeyObject } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { readKeyFile } from '../disk/key-file.ts';
import { type Certificate, certifiedPeer, issueCertificate, renewAt } from '../fleet/certificate.ts';
import type { Identity } from '../fleet/identity.ts';
import { MemberStore } from '../fleet/member-store.ts';
import { type MemberChange, Members } from '../fleet/members.ts';
import { type Revocation, revokedPeer } from '../fleet/revocation.ts';
import type { Roster } from '../fleet/roster.ts';
import { openStatement, rawPublicKey, StatementRefused } from '../fleet/statement.ts';
import { type Issuer, readTrustList, type TrustList, TrustListInvalid } from '../fleet/trust-list.ts';
import { loadWireguardKey, type WireguardKey } from '../fleet/wireguard-key.ts';
import type { Log } from '../observe/log.ts';
import type { FleetKeys } from '../release/fleet-keys.ts';
import type { KnownMember, Member } from '../swarm/membership.ts';
import type { Vouching } from '../swarm/vouched.ts';
import { acquaintances } from './acquaintance.ts';
import type { FleetClock } from './fleet-clock.ts';
import { graceOf } from './grace.ts';

/** What a node keeps of the fleet that it joined, in its data directory. */
export const fleetFiles = (data: string) => ({
  root: join(data, 'fleet', 'root.json'),
  members: join(data, 'fleet', 'members'),
  invitations: join(data, 'fleet', 'invitations.json'),
  /** On a node that admits without having all of the fleet's keys. */
  issuer: join(data, 'fleet', 'issuer.key'),
  /** The time floor. */
  clock: join(data, 'fleet', 'clock.json'),
});

/** A certificate lives so long, days, unless its issuer may give fewer; a third of that before its end it is renewed. */
const DAYS = 60;
const DAY_S = 86_400;
const MAX_NAME = 32;

interface Deps {
  readonly data: string;
  readonly identity: Identity;
  readonly roster: Roster;
  readonly keys: FleetKeys | undefined;
  /** What the fleet's signed metadata says of membership; undefined where it says nothing. */
  readonly trust: unknown;
  readonly clock: Pick<FleetClock, 'now' | 'signed'>;
  readonly log: Log;
}

/** Who may sign certificates with a key that is here. */
export interface OwnIssuer extends Issuer {
  readonly privateKey: KeyObject;
}

/** The network that members of other sites are met in. */
interface MemberNetwork {
  isInside(address: string): boolean;
  /** Members' addresses follow from their certificates; else they say themselves where they are. */
  readonly derived: boolean;
}

/** The certificates of a fleet, as this node knows them, and what this node may do with them. */
export interface Certified {
  /** The trust list that this started from, as JSON. */
  readonly trust: unknown;
  readonly members: Members;
  readonly store: MemberStore;
  readonly wireguardKey: WireguardKey;
  /** Undefined on nodes that admit nobody. */
  readonly issuer: OwnIssuer | undefined;
  /** Seconds since 1970. */
  now(): number;
}

/**
 * Who belongs to this node's fleet: those whom its description lists, and those whom an issuer of the fleet has given a
 * certificate. Either is enough.
 */
export class Membership {
  /** Undefined for a fleet that has no certificates. */
  readonly certified: Certified | undefined;
  readonly #peerId: string;
  readonly #roster: Roster;
  readonly #log: Log;
  #onShown: (change: MemberChange) => void = () => undefined;
  /** This node has an interface in a WireGuard network: members of other sites are dialled there, and nowhere else. */
  overlay: MemberNetwork | undefined;
  /** Somebody who may renew certificates of this node's site has been in reach for long enough: see `IssuerReach`. */
  issuerInReach = false;

  private constructor({ identity, roster, log }: Deps, certified: Certified | undefined) {
    this.#peerId = identity.peerId;
    this.#roster = roster;
    this.#log = log;
    this.certified = certified;
  }

  /** Starts from what is on disk, whoever else is there. Rejects with `FileUnusable` and `FleetKeysUnusable`. */
  static async open(deps: Deps): Promise<Membership> {
    const { data, keys, log, clock } = deps;
    // The list beside the fleet's own keys is the newest.
    const json = (await keys?.trust()) ?? deps.trust;
    if (json === undefined) return new Membership(deps, undefined);
    const trust = understood(json, deps);
    if (trust === undefined) return new Membership(deps, undefined);
    await mkdir(dirname(fleetFiles(data).members), { recursive: true, mode: 0o700 });
    const now = () => clock.now() / 1000;
    const issuer = await ownIssuer(fleetFiles(data).issuer, keys, trust);
    let membership: Membership | undefined;
    const grace = (one: Certificate) => membership?.grace(one) ?? 0;
    const members = new Members({ trust, now, grace, signed: (at) => clock.signed(at * 1000) });
    const store = new MemberStore(fleetFiles(data).members, { log });
    for (const bytes of await store.read()) {
      try {
        members.hear(bytes);
      } catch (error) {
        if (!(error instanceof StatementRefused)) throw error;
        log.info('a kept statement counts no longer', { reason: error.reason, error });
      }
    }
    const wireguardKey = await loadWireguardKey(data);
    const certified = { trust: json, members, store, wireguardKey, issuer, now };
    membership = new Membership(deps, certified);
    const revoked = members.fault(deps.identity.peerId) === 'revoked';
    if (issuer !== undefined && membership.isDue() && !revoked) {
      members.hear(membership.renewed(issuer).bytes);
      store.keep(() => members.statements());
    }
    return membership;
  }

  /** On every connection both ends show their certificates: who was admitted while we were away is known by it at once. */
  get vouching(): Vouching | undefined {
    const { certified } = this;
    if (certified === undefined) return undefined;
    return {
      own: () => this.own?.bytes ?? new Uint8Array(),
      shown: (peerId, bytes) => {
        if (bytes.length > 0) this.#shown(certified, peerId, bytes);
        return this.member(peerId) !== undefined;
      },
      farewell: (peerId) => certified.members.revocation(peerId)?.bytes ?? new Uint8Array(),
    };
  }

  /** For how long a certificate counts here beyond its end, seconds. */
  grace(certificate: Certificate): number {
    const site = this.certified?.members.certificate(this.#peerId)?.site;
    return graceOf(certificate, { site, admits: this.certified?.issuer, issuerInReach: this.issuerInReach });
  }

  /** The site of this node, when a certificate there is due or over that may be granted grace; else undefined. */
  get siteInNeed(): string | undefined {
    const { certified } = this;
    const site = certified?.members.certificate(this.#peerId)?.site;
    if (certified === undefined || site === undefined || certified.issuer !== undefined) return undefined;
    const now = certified.now();
    const facts = { site, admits: undefined, issuerInReach: false };
    const inNeed = (one: Certificate) => now >= renewAt(one) && now <= one.notAfter + graceOf(one, facts);
    return [...certified.members.certificates].some((one) => one.site === site && inNeed(one)) ? site : undefined;
  }

  /** The fleet's description lists it, and so says itself where it is. */
  isDescribed(peerId: string): boolean {
    return this.#roster.member(peerId) !== undefined;
  }

  /** Called with what others showed that was news. */
  set onShown(listener: (change: MemberChange) => void) {
    this.#onShown = listener;
  }

  /** That by which this node is no member any more, wherever it heard of it. */
  get revoked(): Revocation | undefined {
    return this.certified?.members.revocation(this.#peerId);
  }

  /** This node's own certificate, while it counts. */
  get own(): Certificate | undefined {
    return this.certified?.members.member(this.#peerId);
  }

  member(peerId: string): Member | undefined {
    return this.#roster.member(peerId) ?? this.certified?.members.member(peerId);
  }

  /** Those to keep connected to: all of the description, and of the certified ones as many as one node needs. */
  get members(): KnownMember[] {
    return [...this.#roster.members, ...this.contacts()];
  }

  /** Certified members to keep connected to, as far as they have said where they are. */
  contacts(): KnownMember[] {
    const { own, certified } = this;
    if (own === undefined || certified === undefined) return [];
    return acquaintances(own, certified.members.members).flatMap((one) => this.contact(one) ?? []);
  }

  /**
   * How to reach a certified member: on the segment where it says, and in another site by its overlay address, while we
   * are in the overlay. Undefined when it has not said, or is in the description, which says itself.
   */
  contact({ peerId, site, name, address }: Certificate): KnownMember | undefined {
    const addresses = this.certified?.members.binding(peerId)?.addresses;
    if (addresses === undefined || this.isDescribed(peerId)) return undefined;
    if (this.overlay === undefined || site === this.own?.site) return { peerId, site, name, addresses };
    if (!this.overlay.derived) {
      const inside = addresses.filter((each) => this.overlay?.isInside(hostOf(each)));
      // Who has none there is not in it, or not yet.
      return { peerId, site, name, addresses: inside.length > 0 ? inside : addresses };
    }
    const ports = new Set(addresses.map((each) => each.split('/').at(-1)));
    return { peerId, site, name, addresses: [...ports].map((port) => `/ip6/${address}/tcp/${port}`) };
  }

  /**
   * Of what a peer, a DHT or the segment says, too: certified members of other sites at their overlay address alone, those
   * of the own site anywhere else.
   */
  mayDial(peerId: string, host: string): boolean {
    const member = this.certified?.members.member(peerId);
    if (this.overlay === undefined || member === undefined || this.isDescribed(peerId)) return true;
    if (this.overlay.isInside(host)) return member.site !== this.own?.site;
    if (member.site === this.own?.site) return true;
    const said = this.certified?.members.binding(peerId)?.addresses ?? [];
    return !this.overlay.derived && !said.some((each) => this.overlay?.isInside(hostOf(each)));
  }

  /** This node's own certificate should be replaced by a later one. */
  isDue(): boolean {
    const { own } = this;
    return own === undefined || (this.certified?.now() ?? 0) >= renewAt(own);
  }

  /** The next certificate of a member: the same but for its time. Throws `StatementRefused`. */
  renew(issuer: OwnIssuer, current: Certificate): Certificate {
    return this.issue(issuer, current, Math.ceil((current.notAfter - current.notBefore) / DAY_S));
  }

  /** A new certificate for this node, by its own issuer. */
  renewed(issuer: OwnIssuer): Certificate {
    const { certified, own } = this as { certified: Certified; own: Certificate | undefined };
    const described = this.#roster.member(this.#peerId);
    const [firstSite = 'default'] = Object.keys(certified.members.trust.sites);
    const known = certified.members.certificate(this.#peerId) ?? own;
    const site = known?.site ?? issuer.site ?? described?.site ?? firstSite;
    return this.issue(issuer, {
      peerId: this.#peerId,
      wireguardKey: certified.wireguardKey.publicKey,
      name: known?.name ?? described?.name ?? hostname(),
      site: Object.hasOwn(certified.members.trust.sites, site) ? site : firstSite,
      roles: known?.roles ?? [],
    });
  }

  /** Signs a certificate from now on. Of a member that is known, it keeps since when. Throws `StatementRefused`. */
  issue(
    issuer: OwnIssuer,
    facts: Pick<Certificate, 'peerId' | 'wireguardKey' | 'name' | 'site' | 'roles'>,
    days: number = DAYS,
  ): Certificate {
    const { members, now } = this.certified as Certified;
    const from = Math.floor(now());
    const since = members.certificate(facts.peerId)?.since ?? from;
    const notAfter = from + Math.min(days, issuer.maxDays) * DAY_S;
    const name = nameOf(facts.name);
    return issueCertificate({ ...facts, name, since, notBefore: from, notAfter }, issuer.privateKey, members.trust);
  }

  /** A stranger's own certificate is heard, and that we were revoked; nothing else. What it is worth, its signature says. */
  #shown({ members }: Certified, peerId: string, bytes: Uint8Array): void {
    try {
      const statement = openStatement(bytes);
      const named = statement.kind === 'certificate' ? certifiedPeer(statement) : revokedPeer(statement);
      if (named !== (statement.kind === 'certificate' ? peerId : this.#peerId)) return;
      const change = members.hear(bytes);
      if (change !== undefined) this.#onShown(change);
    } catch (error) {
      if (!(error instanceof StatementRefused)) throw error;
      this.#log.debug('what a peer showed does not count', { peer: peerId, reason: error.reason });
    }
  }
}

function hostOf(address: string): string {
  return address.split('/')[2] ?? '';
}

/** What anybody may be called, whatever a machine calls itself. */
function nameOf(text: string): string {
  const [first = ''] = text.toLowerCase().split('.');
  const name = first
    .replaceAll(/[^a-z0-9-]+/g, '-')
    .slice(0, MAX_NAME)
    .replaceAll(/^-+|-+$/g, '');
  return name === '' ? 'node' : name;
}

/** A mistake in the operator's own list is told at once; a list from elsewhere must not keep the agent from starting. */
function understood(json: unknown, { keys, log }: Deps): TrustList | undefined {
  try {
    return readTrustList(json);
  } catch (error) {
    if (!(error instanceof TrustListInvalid) || keys !== undefined) throw error;
    log.error('membership by certificate is off: this version does not understand the fleet’s trust list', { error });
    return undefined;
  }
}

/** The issuer of widest reach whose key is here. */
async function ownIssuer(file: string, keys: FleetKeys | undefined, trust: TrustList): Promise<OwnIssuer | undefined> {
  const wideFirst = trust.issuers.toSorted((a, b) => Number(a.site !== undefined) - Number(b.site !== undefined));
  const given = await readKeyFile(file);
  for (const issuer of wideFirst) {
    for (const privateKey of [await keys?.issuer(issuer.name), given]) {
      if (privateKey === undefined) continue;
      if (Buffer.from(rawPublicKey(privateKey)).toString('hex') === issuer.key) return { ...issuer, privateKey };
    }
  }
  return undefined;
}
