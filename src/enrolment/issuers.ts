import { createKeyFile, newSigningKey } from '../disk/key-file.ts';
import { rawPublicKey } from '../fleet/statement.ts';
import {
  type AllowedMachine,
  type Issuer,
  MEMBER_ROLES,
  type MemberRole,
  readTrustList,
  type TrustList,
  TrustListInvalid,
  writeTrustList,
} from '../fleet/trust-list.ts';
import { type FleetKeys, FleetKeysUnusable, openFleetKeys } from '../release/fleet-keys.ts';

export interface NewIssuer {
  readonly name: string;
  /** The only site that it admits to; added to the fleet when it has none of that name. All sites when absent. */
  readonly site?: string | undefined;
  readonly roles: readonly string[];
  /** Longest life of its certificates. */
  readonly days: number;
}

/**
 * Puts a machine on the list of those that are let in without a token, or replaces what the list says of it. Rejects with
 * `TrustListInvalid` and `FleetKeysUnusable`.
 */
export async function allowMachine(
  directory: string,
  { machine, site, name, roles }: Omit<AllowedMachine, 'roles'> & { readonly roles: readonly string[] },
): Promise<void> {
  const { keys, trust } = await openTrust(directory);
  const entry = { machine: machine.toLowerCase(), site, name, roles: knownRoles(roles) };
  const others = (trust.allow ?? []).filter((one) => one.machine !== entry.machine);
  await keys.setTrust(writeTrustList({ ...trust, allow: [...others, entry] }));
}

/**
 * Makes a key that may admit, puts it into `file`, and names it in the trust list beside the fleet's keys, from where the
 * next signing takes it. Rejects with `TrustListInvalid` and `FleetKeysUnusable`.
 */
export async function addIssuer(directory: string, { name, site, roles, days }: NewIssuer, file: string) {
  const { keys, trust } = await openTrust(directory);
  const given = knownRoles(roles);
  if (trust.issuers.some((issuer) => issuer.name === name)) throw new TrustListInvalid(`has an issuer ${name} already`);
  const privateKey = newSigningKey();
  const key = Buffer.from(rawPublicKey(privateKey)).toString('hex');
  const issuer: Issuer = {
    name,
    key,
    ...(site !== undefined && { site }),
    roles: given,
    maxDays: days,
  };
  const sites = { ...trust.sites };
  if (site !== undefined && !Object.hasOwn(sites, site)) sites[site] = Math.max(0, ...Object.values(sites)) + 1;
  const next = writeTrustList({ ...trust, sites, issuers: [...trust.issuers, issuer] });
  // The key is there before anybody trusts it.
  if (!(await createKeyFile(file, privateKey))) {
    throw new FleetKeysUnusable('exists', file, `${file} is there already; keys are never overwritten`);
  }
  await keys.setTrust(next);
  return { issuer: name, file, ...(site !== undefined && { site, siteNumber: sites[site] }) };
}

async function openTrust(directory: string): Promise<{ readonly keys: FleetKeys; readonly trust: TrustList }> {
  const keys = await openFleetKeys(directory);
  const json = await keys.trust();
  if (json !== undefined) return { keys, trust: readTrustList(json) };
  throw new TrustListInvalid('is missing: this fleet was made before there were certificates, make a new one');
}

function knownRoles(roles: readonly string[]): MemberRole[] {
  const wrong = roles.find((role) => !MEMBER_ROLES.some((one) => one === role));
  if (wrong === undefined) return MEMBER_ROLES.filter((role) => roles.includes(role));
  throw new TrustListInvalid(`cannot name the role ${wrong}: known are ${MEMBER_ROLES.join(', ')}`);
}
