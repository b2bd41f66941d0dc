import { randomBytes } from 'node:crypto';
import { newSigningKey } from '../disk/key-file.ts';
import { FLEET_ID_BYTES } from '../fleet/overlay-address.ts';
import { rawPublicKey } from '../fleet/statement.ts';
import { MEMBER_ROLES, type TrustList, writeTrustList } from '../fleet/trust-list.ts';
import { createFleetKeys, type FleetKeys, type NewFleet } from '../release/fleet-keys.ts';

/** The first issuer of a fleet: it may admit anywhere. */
const FIRST_ISSUER = { name: 'owner', maxDays: 365 } as const;

/** The keys of a fleet whose members are admitted by certificate. Rejects with `FleetKeysUnusable`. */
export async function createFleet(
  directory: string,
  { sites = ['default'], ...fleet }: Omit<NewFleet, 'membership'> & { readonly sites?: readonly string[] },
): Promise<FleetKeys> {
  const fleetId = randomBytes(FLEET_ID_BYTES).toString('hex');
  const owner = newSigningKey();
  const key = Buffer.from(rawPublicKey(owner)).toString('hex');
  const trust: TrustList = {
    fleetId,
    epoch: 1,
    sites: Object.fromEntries([...new Set(sites)].map((site, index) => [site, index + 1])),
    issuers: [{ ...FIRST_ISSUER, key, roles: MEMBER_ROLES }],
  };
  const issuers = new Map([[FIRST_ISSUER.name, owner]]);
  return await createFleetKeys(directory, { ...fleet, membership: { fleetId, trust: writeTrustList(trust), issuers } });
}
