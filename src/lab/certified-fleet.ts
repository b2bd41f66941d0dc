import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { foundFleet } from '../enrolment/founding.ts';
import { fleetFiles } from '../enrolment/membership.ts';
import { createFleet } from '../enrolment/new-fleet.ts';
import type { FleetDescription, Role } from '../fleet/description.ts';
import { overlayAddress } from '../fleet/overlay-address.ts';
import { numberOfSite, readTrustList } from '../fleet/trust-list.ts';
import { silentLog } from '../observe/log.ts';

/** A node, as far as its certificate says something of it. */
interface Enrollable {
  readonly name: string;
  readonly site: string;
  readonly data: string;
  readonly enrolled: boolean;
  readonly multiaddrs: readonly string[];
  readonly addresses: { readonly ipv4?: string; readonly ipv6?: string };
  readonly overlay?: { readonly port: number };
}

/** A fleet that was made for a lab, with keys of its own. */
export interface CertifiedFleet {
  /** In the overlay. */
  address(site: string, peerId: string): string;
  /** Makes all of these members, but for those that join later. */
  enrol(nodes: readonly Enrollable[], options: { readonly signal: AbortSignal }): Promise<void>;
}

/** Where an agent that has the fleet's keys keeps what it signs, in its data directory. */
const REPOSITORY = 'repository';

/** Makes the keys of a described fleet, as `bootmesh fleet init` does. */
export async function makeFleet(directory: string, description: FleetDescription): Promise<CertifiedFleet> {
  const { fleet, channels, sites, nodes } = description;
  const keys = await createFleet(directory, { fleet, channels, sites: Object.keys(sites) });
  const trust = readTrustList(await keys.trust());
  return {
    address: (site, peerId) =>
      overlayAddress(Buffer.from(trust.fleetId, 'hex'), numberOfSite(trust, site) ?? 0, peerId),
    async enrol(all, { signal }) {
      const holder = all.find(({ name }) => nodes[name]?.keys === true);
      if (holder === undefined) throw new TypeError('a fleet with an overlay has a node that holds its keys');
      const founders = all
        .filter(({ enrolled }) => enrolled)
        .map(({ name, site, data, multiaddrs, addresses: { ipv4, ipv6 }, overlay }) => {
          const roles: readonly Role[] = nodes[name]?.roles ?? [];
          const places = [ipv4 && `${ipv4}:${overlay?.port}`, ipv6 && `[${ipv6}]:${overlay?.port}`];
          const endpoints = places.filter((place) => place !== undefined);
          return { name, site, data, roles, addresses: multiaddrs, endpoints, issuer: nodes[name]?.issuer === true };
        });
      await foundFleet(keys, join(holder.data, REPOSITORY), founders, { log: silentLog, signal });
    },
  };
}

/** A machine that was no member when the lab was made has joined since. */
export async function hasJoined(data: string): Promise<boolean> {
  return await access(fleetFiles(data).root).then(
    () => true,
    () => false,
  );
}
