import type { KeyObject } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { RevocationSchema } from './membership_pb.ts';
import { type OpenedStatement, openStatement, StatementRefused, sealStatement } from './statement.ts';
import type { TrustList } from './trust-list.ts';

export interface RevocationFacts {
  readonly peerId: string;
  /** Its site. */
  readonly site: string;
  /** Seconds since 1970. */
  readonly at: number;
  /** For people. */
  readonly why: string;
}

/**
 * A peer id that is no member's any more. It names the peer, never a certificate: the same key under another
 * certificate is as revoked (nebula#1600). It has no end.
 */
export interface Revocation extends RevocationFacts {
  readonly issuer: string;
  /** Its issuer admits to any site, and so it counts in all of them. */
  readonly everywhere: boolean;
  /** As it is stored and sent. */
  readonly bytes: Uint8Array;
}

const MAX_WHY = 200;

/** Throws `StatementRefused` when the trust list does not let this issuer. */
export function revoke(facts: RevocationFacts, issuerKey: KeyObject, trust: TrustList): Revocation {
  const { peerId, site, why } = facts;
  const message = { fleetId: Buffer.from(trust.fleetId, 'hex'), peerId, site, at: BigInt(facts.at), why };
  const body = toBinary(RevocationSchema, create(RevocationSchema, message));
  const bytes = sealStatement('revocation', body, issuerKey);
  return readRevocation(openStatement(bytes), trust);
}

/** Throws `StatementRefused`. */
export function readRevocation(statement: OpenedStatement, trust: TrustList): Revocation {
  const { fleetId, ...facts } = decode(statement);
  if (fleetId !== trust.fleetId) throw new StatementRefused('fleet', `a revocation of another fleet (${fleetId})`);
  const issuer = trust.issuers.find(({ key }) => key === statement.signer);
  if (issuer === undefined) {
    throw new StatementRefused('issuer', `a revocation by ${statement.signer}, which is no issuer of this fleet`);
  }
  if (issuer.site !== undefined && issuer.site !== facts.site) {
    throw new StatementRefused('site', `issuer ${issuer.name} revokes in ${issuer.site} alone, not in ${facts.site}`);
  }
  if (!statement.isSigned()) {
    throw new StatementRefused('signature', `a revocation of ${facts.peerId} whose signature is wrong`);
  }
  return { ...facts, issuer: issuer.name, everywhere: issuer.site === undefined, bytes: statement.bytes };
}

/** Whom an opened revocation is of, true or not. Throws `StatementRefused` (malformed). */
export function revokedPeer(statement: OpenedStatement): string {
  return decode(statement).peerId;
}

function decode({ kind, body }: OpenedStatement): RevocationFacts & { readonly fleetId: string } {
  if (kind !== 'revocation') throw new StatementRefused('malformed', `a ${kind} and no revocation`);
  try {
    const { fleetId, peerId, site, at, why } = fromBinary(RevocationSchema, body, { readUnknownFields: false });
    if (at > BigInt(Number.MAX_SAFE_INTEGER)) throw new RangeError(`${at} is no time`);
    if (why.length > MAX_WHY) throw new RangeError(`a reason of more than ${MAX_WHY} characters`);
    return { fleetId: Buffer.from(fleetId).toString('hex'), peerId, site, at: Number(at), why };
  } catch (cause) {
    throw new StatementRefused('malformed', `not a revocation: ${(cause as Error).message}`, { cause });
  }
}
