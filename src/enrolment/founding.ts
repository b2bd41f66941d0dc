import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { sealBinding } from '../fleet/binding.ts';
import { issueCertificate } from '../fleet/certificate.ts';
import { type Identity, loadIdentity, signingKeyOf } from '../fleet/identity.ts';
import { type MemberRole, readTrustList, TrustListInvalid } from '../fleet/trust-list.ts';
import { loadWireguardKey } from '../fleet/wireguard-key.ts';
import type { Log } from '../observe/log.ts';
import { type FleetKeys, FleetKeysUnusable } from '../release/fleet-keys.ts';
import { readRepository, renew } from '../release/publisher.ts';
import { addIssuer } from './issuers.ts';
import { settle } from './join.ts';
import { fleetFiles } from './membership.ts';

/** One of the first members of a fleet. */
export interface Founder {
  /** Its data directory; its keys are made in it where they are missing. */
  readonly data: string;
  readonly name: string;
  readonly site: string;
  readonly roles: readonly MemberRole[];
  /** Where it will be found, as it would say itself. */
  readonly addresses: readonly string[];
  readonly endpoints: readonly string[];
  /** It gets a key that admits to its site. */
  readonly issuer: boolean;
}

/** Roles that the issuer of a site may give. */
const SITE_ROLES: readonly MemberRole[] = ['gateway', 'origin', 'seed', 'canary'];
/** As long as `join` makes them last; longest life of what an issuer of a site signs. */
const DAYS = 60;
const DAY_S = 86_400;

/**
 * Makes members of machines that are all at hand, without a door: who may read the fleet's keys and write the data
 * directories needs none. Each directory then holds what a `join` leaves behind, and each member knows all others.
 * @param repository of the node that holds the keys; the fleet's metadata is signed into it
 * Rejects with `FleetKeysUnusable`, `TrustListInvalid` and `FileUnusable`.
 */
export async function foundFleet(
  keys: FleetKeys,
  repository: string,
  founders: readonly Founder[],
  { log, signal }: { readonly log: Log; readonly signal: AbortSignal },
): Promise<void> {
  for (const { data, name, site, issuer } of founders) {
    if (!issuer) continue;
    const file = fleetFiles(data).issuer;
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    await addIssuer(keys.directory, { name, site, roles: SITE_ROLES, days: DAYS }, file);
  }
  await renew({ keys, directory: repository });
  const members = await Promise.all(founders.map((founder) => statementsOf(keys, founder)));
  // Certificates first: a binding counts only of somebody who is known.
  const statements = [...members.map(({ certificate }) => certificate), ...members.map(({ binding }) => binding)];
  const read = (document: string) => readRepository(repository, document);
  for (const { data, peerId } of members) {
    signal.throwIfAborted();
    await settle(data, peerId, { root: keys.root, statements, read }, { log, signal });
  }
}

async function statementsOf(keys: FleetKeys, { data, name, site, roles, addresses, endpoints }: Founder) {
  const json = await keys.trust();
  if (json === undefined) throw new TrustListInvalid('is missing: this fleet was made before there were certificates');
  const trust = readTrustList(json);
  const [identity, wireguardKey] = await Promise.all([loadIdentity(data), loadWireguardKey(data)]);
  const { peerId } = identity;
  const issuerKey = await ownerKey(keys, trust.issuers);
  const from = Math.floor(Date.now() / 1000);
  const facts = { peerId, wireguardKey: wireguardKey.publicKey, name, site, roles };
  const certificate = issueCertificate(
    { ...facts, since: from, notBefore: from, notAfter: from + DAYS * DAY_S },
    issuerKey,
    trust,
  );
  const binding = bindingOf(identity, { addresses, endpoints }, trust.fleetId);
  return { data, peerId, certificate: certificate.bytes, binding };
}

function bindingOf(
  identity: Identity,
  places: { readonly addresses: readonly string[]; readonly endpoints: readonly string[] },
  fleetId: string,
): Uint8Array {
  const facts = { peerId: identity.peerId, ...places, sequence: Date.now() };
  return sealBinding(facts, signingKeyOf(identity), fleetId).bytes;
}

/** Of an issuer that may admit anywhere. */
async function ownerKey(
  keys: FleetKeys,
  issuers: readonly { readonly name: string; readonly site?: string | undefined }[],
) {
  const owner = issuers.find(({ site }) => site === undefined);
  const key = owner && (await keys.issuer(owner.name));
  if (key !== undefined) return key;
  const message = `${keys.directory} has no key of an issuer that may admit anywhere: make the fleet anew`;
  throw new FleetKeysUnusable('missing', keys.directory, message);
}
