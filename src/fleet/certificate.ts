import type { KeyObject } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { peerIdFromString } from '@libp2p/peer-id';
import { CertificateSchema, MemberRole as WireRole } from './membership_pb.ts';
import { overlayAddress } from './overlay-address.ts';
import { type OpenedStatement, openStatement, StatementRefused, sealStatement } from './statement.ts';
import { type Issuer, MEMBER_ROLES, type MemberRole, numberOfSite, type TrustList } from './trust-list.ts';

/** What an issuer says of a member. Times are seconds since 1970. */
export interface CertificateFacts {
  readonly peerId: string;
  /** x25519 public key, base64 as `wg pubkey` prints it. */
  readonly wireguardKey: string;
  readonly name: string;
  readonly site: string;
  readonly roles: readonly MemberRole[];
  /** When it became a member: the same in every renewal. */
  readonly since: number;
  readonly notBefore: number;
  readonly notAfter: number;
}

/** One that the fleet stands by, whatever the time: see `standing`. */
export interface Certificate extends CertificateFacts {
  readonly epoch: number;
  /** Name of the issuer that signed it. */
  readonly issuer: string;
  /** In the overlay; follows from fleet, site and peer id. */
  readonly address: string;
  /** As it is stored and sent. */
  readonly bytes: Uint8Array;
}

/** Clocks may differ by so many seconds. */
const SKEW_S = 300;
const DAY_S = 86_400;
const MAX_NAME = 64;
const WIREGUARD_KEY_BYTES = 32;

const ROLE_TO_WIRE: Readonly<Record<MemberRole, WireRole>> = {
  gateway: WireRole.GATEWAY,
  origin: WireRole.ORIGIN,
  seed: WireRole.SEED,
  canary: WireRole.CANARY,
  device: WireRole.DEVICE,
};

/** Signs a certificate that the trust list lets this issuer give. Throws `StatementRefused` with what it may not. */
export function issueCertificate(facts: CertificateFacts, issuerKey: KeyObject, trust: TrustList): Certificate {
  const message = create(CertificateSchema, {
    fleetId: Buffer.from(trust.fleetId, 'hex'),
    peerId: facts.peerId,
    wireguardKey: Buffer.from(facts.wireguardKey, 'base64'),
    name: facts.name,
    site: facts.site,
    roles: facts.roles.map((role) => ROLE_TO_WIRE[role]),
    since: BigInt(facts.since),
    notBefore: BigInt(facts.notBefore),
    notAfter: BigInt(facts.notAfter),
    epoch: trust.epoch,
  });
  const bytes = sealStatement('certificate', toBinary(CertificateSchema, message), issuerKey);
  return readCertificate(openStatement(bytes), trust);
}

/**
 * The certificate in an opened statement, when an issuer of the trust list signed it and may have. Cheap checks come
 * before the signature. Throws `StatementRefused`.
 */
export function readCertificate(statement: OpenedStatement, trust: TrustList): Certificate {
  const facts = decode(statement);
  if (facts.fleetId !== trust.fleetId) refuse('fleet', `a certificate of another fleet (${facts.fleetId})`);
  const issuer = trust.issuers.find(({ key }) => key === statement.signer);
  if (issuer === undefined) refuse('issuer', `a certificate by ${statement.signer}, which is no issuer of this fleet`);
  const siteNumber = numberOfSite(trust, facts.site);
  if (siteNumber === undefined) refuse('site', `a certificate for ${facts.site}, which is no site of the fleet`);
  checkIssuer(facts, issuer, trust);
  if (!statement.isSigned()) refuse('signature', `a certificate for ${facts.peerId} whose signature is wrong`);
  const { fleetId, ...rest } = facts;
  const address = overlayAddress(Buffer.from(fleetId, 'hex'), siteNumber, facts.peerId);
  return { ...rest, issuer: issuer.name, address, bytes: statement.bytes };
}

/** Whom an opened certificate is of, true or not. Throws `StatementRefused` (malformed). */
export function certifiedPeer(statement: OpenedStatement): string {
  return decode(statement).peerId;
}

/**
 * Whether it counts at this time, seconds since 1970. `grace` is for a member that cannot be renewed because no issuer
 * can be reached.
 */
export function standing(
  { notBefore, notAfter }: Pick<Certificate, 'notBefore' | 'notAfter'>,
  now: number,
  graceSeconds = 0,
): 'valid' | 'early' | 'expired' {
  if (now < notBefore - SKEW_S) return 'early';
  return now > notAfter + graceSeconds ? 'expired' : 'valid';
}

/** A third of its life is left: time to ask for the next one. */
export function renewAt({ notBefore, notAfter }: Pick<Certificate, 'notBefore' | 'notAfter'>): number {
  return notAfter - Math.floor((notAfter - notBefore) / 3);
}

function checkIssuer(facts: Decoded, issuer: Issuer, trust: TrustList): void {
  const who = `issuer ${issuer.name}`;
  if (issuer.site !== undefined && issuer.site !== facts.site) {
    refuse('site', `${who} admits to ${issuer.site} alone, not to ${facts.site}`);
  }
  const wrong = facts.roles.find((role) => !issuer.roles.includes(role));
  if (wrong !== undefined) refuse('role', `${who} may not give the role ${wrong}`);
  const days = (facts.notAfter - facts.notBefore) / DAY_S;
  if (days > issuer.maxDays) refuse('lifetime', `${who} gives ${issuer.maxDays} days at most, not ${days.toFixed(1)}`);
  if (facts.epoch < trust.epoch)
    refuse('epoch', `a certificate of epoch ${facts.epoch}; the fleet is at ${trust.epoch}`);
}

type Decoded = CertificateFacts & { readonly epoch: number; readonly fleetId: string };

function decode({ kind, body }: OpenedStatement): Decoded {
  if (kind !== 'certificate') refuse('malformed', `a ${kind} and no certificate`);
  try {
    const wire = fromBinary(CertificateSchema, body, { readUnknownFields: false });
    const facts = {
      fleetId: Buffer.from(wire.fleetId).toString('hex'),
      peerId: nodeId(wire.peerId),
      wireguardKey: Buffer.from(wire.wireguardKey).toString('base64'),
      name: wire.name,
      site: wire.site,
      roles: wire.roles.map(roleOf),
      since: seconds(wire.since),
      notBefore: seconds(wire.notBefore),
      notAfter: seconds(wire.notAfter),
      epoch: wire.epoch,
    };
    if (wire.wireguardKey.length !== WIREGUARD_KEY_BYTES) throw new RangeError('a WireGuard key has 32 bytes');
    if (wire.name.length > MAX_NAME) throw new RangeError(`a name of more than ${MAX_NAME} characters`);
    if (facts.notAfter <= facts.notBefore || facts.since > facts.notAfter) throw new RangeError('times in no order');
    return facts;
  } catch (cause) {
    if (cause instanceof StatementRefused) throw cause;
    throw new StatementRefused('malformed', `not a certificate: ${(cause as Error).message}`, { cause });
  }
}

function nodeId(text: string): string {
  const id = peerIdFromString(text);
  if (id.type !== 'Ed25519' || id.toString() !== text) throw new RangeError('no ed25519 peer id');
  return text;
}

function roleOf(wire: WireRole): MemberRole {
  const role = MEMBER_ROLES.find((name) => ROLE_TO_WIRE[name] === wire);
  if (role === undefined) throw new RangeError(`role ${wire} is unknown`);
  return role;
}

function seconds(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new RangeError(`${value} is no time`);
  return Number(value);
}

function refuse(reason: StatementRefused['reason'], message: string): never {
  throw new StatementRefused(reason, message);
}
