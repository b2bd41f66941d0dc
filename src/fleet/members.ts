import { type Binding, readBinding } from './binding.ts';
import { type Certificate, readCertificate, standing } from './certificate.ts';
import { type Revocation, readRevocation } from './revocation.ts';
import { openStatement, StatementRefused } from './statement.ts';
import type { TrustList } from './trust-list.ts';

export interface MembersOptions {
  /** Members, and again so many revocations; more are refused. @default 16384 */
  readonly most: number;
}

export interface MembersDeps {
  readonly trust: TrustList;
  /** Seconds since 1970. */
  now(): number;
  /** An issuer of the fleet has signed at this time, seconds since 1970. */
  signed?(at: number): void;
  /** Seconds for which a certificate that is not revoked counts beyond its end. @default 0 */
  grace?(certificate: Certificate): number;
}

export const MEMBERS_DEFAULTS: MembersOptions = { most: 16_384 };

/**
 * A certificate that begins later is not kept: the latest one of a peer counts, and none that is right would ever replace
 * one that an issuer with a wrong clock dated years ahead. Seconds.
 */
const FUTURE_S = 86_400;

/** What a statement changed, whatever the time: who is a member that was none, by another certificate, or no longer. */
export interface MemberChange {
  readonly joined: readonly Certificate[];
  readonly renewed: readonly Certificate[];
  readonly left: readonly Certificate[];
  /** Where one says that it is to be found now. */
  readonly bound?: Binding;
}

/**
 * Everybody who belongs to a fleet by certificate, as far as this node has heard, and everybody who does no more. All
 * that comes in is checked here, whoever brought it. Of each peer the latest certificate is kept, and whether it counts
 * follows from all that is kept: nodes that have heard the same, in whatever order, have the same members.
 */
export class Members {
  readonly #options: MembersOptions;
  readonly #now: () => number;
  readonly #signed: (at: number) => void;
  readonly #grace: (certificate: Certificate) => number;
  #trust: TrustList;
  readonly #latest = new Map<string, Certificate>();
  /** Peers by WireGuard key; hardly ever more than one. */
  readonly #claimants = new Map<string, Set<string>>();
  readonly #revocations = new Map<string, Revocation>();
  readonly #bindings = new Map<string, Binding>();

  constructor(deps: MembersDeps, options: Partial<MembersOptions> = {}) {
    this.#trust = deps.trust;
    this.#now = deps.now;
    this.#signed = deps.signed ?? (() => undefined);
    this.#grace = deps.grace ?? (() => 0);
    this.#options = { ...MEMBERS_DEFAULTS, ...options };
  }

  get trust(): TrustList {
    return this.#trust;
  }

  /** The member with this peer id; undefined for a stranger, and before and after its certificate's time. */
  member(peerId: string): Certificate | undefined {
    const certificate = this.#latest.get(peerId);
    return certificate && this.#counts(certificate) && this.#isTimely(certificate) ? certificate : undefined;
  }

  /** All members at this time. */
  get members(): Certificate[] {
    return [...this.#latest.values()].filter((one) => this.#counts(one) && this.#isTimely(one));
  }

  /** Why a peer whose certificate is known is no member; undefined for members and strangers. */
  fault(peerId: string): 'revoked' | 'taken' | 'early' | 'expired' | undefined {
    const certificate = this.#latest.get(peerId);
    if (certificate === undefined) return undefined;
    if (this.#isRevoked(certificate)) return 'revoked';
    if (!this.#counts(certificate)) return 'taken';
    const state = this.#standing(certificate);
    return state === 'valid' ? undefined : state;
  }

  /** That by which the peer is no member any more; also of one whose certificate is not known. */
  revocation(peerId: string): Revocation | undefined {
    const site = this.#latest.get(peerId)?.site;
    return this.#revocations.get(`${peerId} *`) ?? this.#revocations.get(`${peerId} ${site}`);
  }

  /** Where it last said that it is; also of one that is no member any more. */
  binding(peerId: string): Binding | undefined {
    return this.#bindings.get(peerId);
  }

  /** The newest certificate of the peer, whether it counts or not. */
  certificate(peerId: string): Certificate | undefined {
    return this.#latest.get(peerId);
  }

  /** All certificates that are known, the newest of each peer, whether they count or not. */
  get certificates(): Iterable<Certificate> {
    return this.#latest.values();
  }

  /** All that others should hear, in an order in which it can be heard, and of whom it is. */
  *said(): Iterable<{ readonly peerId: string; readonly bytes: Uint8Array }> {
    yield* this.#revocations.values();
    yield* this.#latest.values();
    yield* this.#bindings.values();
  }

  *statements(): Iterable<Uint8Array> {
    for (const { bytes } of this.said()) yield bytes;
  }

  /** Undefined when it is known already, or older than what is. Throws `StatementRefused`. */
  hear(bytes: Uint8Array): MemberChange | undefined {
    const statement = openStatement(bytes);
    if (statement.kind === 'certificate') return this.#hear(readCertificate(statement, this.#trust));
    if (statement.kind === 'binding') return this.#bind(readBinding(statement, this.#trust.fleetId));
    const revocation = readRevocation(statement, this.#trust);
    this.#signed(revocation.at);
    const key = keyOf(revocation);
    if (this.#revocations.has(key)) return undefined;
    if (this.#revocations.size >= this.#options.most) {
      throw new StatementRefused('full', `more than ${this.#options.most} revocations: raise the fleet's epoch`);
    }
    return this.#change([revocation.peerId, ...this.#rivals(revocation.peerId)], () => {
      this.#revocations.set(key, revocation);
    });
  }

  /** A newer list, by which all that is known is judged again. */
  judge(trust: TrustList): MemberChange {
    const statements = [...this.statements()];
    return this.#change([...this.#latest.keys()], () => {
      this.#trust = trust;
      this.#latest.clear();
      this.#claimants.clear();
      this.#revocations.clear();
      this.#bindings.clear();
      for (const bytes of statements) {
        try {
          this.hear(bytes);
        } catch (error) {
          if (!(error instanceof StatementRefused)) throw error;
        }
      }
    });
  }

  #hear(certificate: Certificate): MemberChange | undefined {
    const { peerId, wireguardKey, notBefore } = certificate;
    this.#signed(notBefore);
    if (notBefore > this.#now() + FUTURE_S) {
      throw new StatementRefused('early', `a certificate of ${peerId} that begins more than a day from now`);
    }
    const before = this.#latest.get(peerId);
    if (before !== undefined && !isLater(certificate, before)) return undefined;
    if (before === undefined) this.#makeRoom();
    const touched = new Set([peerId, ...this.#rivals(peerId), ...(this.#claimants.get(wireguardKey) ?? [])]);
    return this.#change([...touched], () => {
      if (before !== undefined) this.#unclaim(before);
      this.#latest.set(peerId, certificate);
      const claimants = this.#claimants.get(wireguardKey) ?? new Set();
      this.#claimants.set(wireguardKey, claimants.add(peerId));
    });
  }

  #bind(binding: Binding): MemberChange | undefined {
    const { peerId, sequence } = binding;
    if (!this.#latest.has(peerId))
      throw new StatementRefused('stranger', `a binding of ${peerId}, of whom nothing is known`);
    if (sequence <= (this.#bindings.get(peerId)?.sequence ?? -1)) return undefined;
    this.#bindings.set(peerId, binding);
    return { joined: [], renewed: [], left: [], bound: binding };
  }

  /** What `act` changes for these peers. */
  #change(peers: readonly string[], act: () => void): MemberChange {
    const counted = () =>
      new Map(peers.flatMap((peer) => this.#counted(peer)).map((one) => [one.peerId, one] as const));
    const before = counted();
    act();
    const after = counted();
    return {
      joined: [...after.values()].filter(({ peerId }) => !before.has(peerId)),
      renewed: [...after.values()].filter((one) => isOther(one, before.get(one.peerId))),
      left: [...before.values()].filter(({ peerId }) => !after.has(peerId)),
    };
  }

  #counted(peerId: string): Certificate[] {
    const certificate = this.#latest.get(peerId);
    return certificate && this.#counts(certificate) ? [certificate] : [];
  }

  /** Neither revoked nor with the WireGuard key of one that became a member before it. */
  #counts(certificate: Certificate): boolean {
    return (
      !this.#isRevoked(certificate) && !this.#rivals(certificate.peerId).some((peer) => this.#yields(certificate, peer))
    );
  }

  #yields(certificate: Certificate, to: string): boolean {
    const rival = this.#latest.get(to);
    return rival !== undefined && !this.#isRevoked(rival) && isEarlier(rival, certificate);
  }

  /** Others with this peer's WireGuard key. */
  #rivals(peerId: string): string[] {
    const key = this.#latest.get(peerId)?.wireguardKey ?? '';
    return [...(this.#claimants.get(key) ?? [])].filter((other) => other !== peerId);
  }

  #isRevoked({ peerId, site }: Certificate): boolean {
    return this.#revocations.has(`${peerId} *`) || this.#revocations.has(`${peerId} ${site}`);
  }

  #isTimely(certificate: Certificate): boolean {
    return this.#standing(certificate) === 'valid';
  }

  #standing(certificate: Certificate): ReturnType<typeof standing> {
    const now = this.#now();
    return standing(certificate, now, now > certificate.notAfter ? this.#grace(certificate) : 0);
  }

  #forget(certificate: Certificate): void {
    this.#latest.delete(certificate.peerId);
    this.#bindings.delete(certificate.peerId);
    this.#unclaim(certificate);
  }

  #unclaim({ peerId, wireguardKey }: Certificate): void {
    const claimants = this.#claimants.get(wireguardKey);
    claimants?.delete(peerId);
    if (claimants?.size === 0) this.#claimants.delete(wireguardKey);
  }

  /** Certificates whose time is over make room for another. */
  #makeRoom(): void {
    if (this.#latest.size < this.#options.most) return;
    for (const old of [...this.#latest.values()]) if (this.#standing(old) === 'expired') this.#forget(old);
    if (this.#latest.size < this.#options.most) return;
    throw new StatementRefused('full', `more than ${this.#options.most} members`);
  }
}

/** One for each site that it counts in. */
function keyOf({ peerId, site, everywhere }: Revocation): string {
  return `${peerId} ${everywhere ? '*' : site}`;
}

function isOther(one: Certificate, before: Certificate | undefined): boolean {
  return before !== undefined && Buffer.compare(one.bytes, before.bytes) !== 0;
}

/** Of two certificates of one peer; their bytes decide between equals, so that all nodes agree. */
function isLater(one: Certificate, other: Certificate): boolean {
  if (one.notBefore !== other.notBefore) return one.notBefore > other.notBefore;
  if (one.notAfter !== other.notAfter) return one.notAfter > other.notAfter;
  return Buffer.compare(one.bytes, other.bytes) > 0;
}

/** Of two peers with one WireGuard key. */
function isEarlier(one: Certificate, other: Certificate): boolean {
  return one.since === other.since ? one.peerId < other.peerId : one.since < other.since;
}
