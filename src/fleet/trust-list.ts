import { z } from 'zod';
import { FLEET_ID_BYTES } from './overlay-address.ts';

export const MEMBER_ROLES = ['gateway', 'origin', 'seed', 'canary', 'device'] as const;
export type MemberRole = (typeof MEMBER_ROLES)[number];

/** A key that may sign certificates, and for whom. */
export interface Issuer {
  readonly name: string;
  /** Raw ed25519 public key, hex. */
  readonly key: string;
  /** The only site that it admits to; any when absent. */
  readonly site?: string | undefined;
  /** Roles that it may give. */
  readonly roles: readonly MemberRole[];
  /** Longest lifetime of a certificate of its, days. */
  readonly maxDays: number;
}

/** What a fleet's own keys say of membership: signed with its release metadata, and so never older than before. */
export interface TrustList {
  /** Hex. */
  readonly fleetId: string;
  /** Certificates of earlier epochs count no longer. */
  readonly epoch: number;
  /** Each site's number in overlay addresses. */
  readonly sites: Readonly<Record<string, number>>;
  readonly issuers: readonly Issuer[];
  /** Machines that are let in without a token, whatever their keys: those without a disk have new ones after each start. */
  readonly allow?: readonly AllowedMachine[] | undefined;
}

/** Whoever is on its segment can say that it is this machine: give it no role that is worth that. */
export interface AllowedMachine {
  /** `mac:52:54:00:12:34:56`, `serial:…` or `uuid:…`, in lower case. */
  readonly machine: string;
  readonly site: string;
  readonly name: string;
  readonly roles: readonly MemberRole[];
}

/** The list is not one that this version understands. */
export class TrustListInvalid extends Error {
  readonly code = 'TRUST_LIST_INVALID';

  constructor(problem: string, options?: ErrorOptions) {
    super(`the fleet's trust list ${problem}`, options);
    this.name = 'TrustListInvalid';
  }
}

const TRUST_LIST_BYTES = 256 * 1024;
const MAX_SITES = 4096;
const MAX_ISSUERS = 1024;
const MAX_ALLOWED = 1024;

/** How a machine is named before it has keys. */
export const MACHINE = /^(?:mac:[0-9a-f]{2}(?::[0-9a-f]{2}){5}|(?:serial|uuid):[!-~]{1,64})$/;

const name = z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/);
const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`));

/** What a later version adds is passed over; what changes the meaning of the rest gets another format. */
const schema = z.object({
  format: z.literal(1),
  fleetId: hex(FLEET_ID_BYTES),
  epoch: z.int().min(1).max(0xffffffff),
  sites: z.record(name, z.int().min(0).max(0xffff)),
  issuers: z
    .array(
      z.object({
        name,
        key: hex(32),
        site: name.optional(),
        roles: z.array(z.enum(MEMBER_ROLES)).max(MEMBER_ROLES.length),
        maxDays: z.int().min(1).max(3650),
      }),
    )
    .max(MAX_ISSUERS),
  allow: z
    .array(
      z.object({
        machine: z.string().regex(MACHINE, 'is no machine: mac:52:54:00:12:34:56, serial:… or uuid:…, in lower case'),
        site: name,
        name,
        roles: z.array(z.enum(MEMBER_ROLES)).max(MEMBER_ROLES.length),
      }),
    )
    .max(MAX_ALLOWED)
    .optional(),
});

/** Reads what JSON gave. Throws `TrustListInvalid`. Whether it is the fleet's own, whoever fetched it knows. */
export function readTrustList(json: unknown): TrustList {
  const checked = schema.safeParse(json);
  if (!checked.success) {
    const [first] = checked.error.issues;
    throw new TrustListInvalid(`is damaged: ${first?.path.join('.')}: ${first?.message}`, { cause: checked.error });
  }
  const { format: _, ...rest } = checked.data;
  const numbers = Object.values(rest.sites);
  if (numbers.length > MAX_SITES) throw new TrustListInvalid(`has more than ${MAX_SITES} sites`);
  if (new Set(numbers).size !== numbers.length) throw new TrustListInvalid('gives one number to two sites');
  for (const key of ['name', 'key'] as const) {
    const all = rest.issuers.map((issuer) => issuer[key]);
    if (new Set(all).size !== all.length) throw new TrustListInvalid(`has two issuers of one ${key}`);
  }
  const machines = rest.allow?.map(({ machine }) => machine) ?? [];
  if (new Set(machines).size !== machines.length) throw new TrustListInvalid('names one machine twice');
  const nowhere = rest.allow?.find(({ site }) => numberOfSite(rest, site) === undefined);
  if (nowhere !== undefined) throw new TrustListInvalid(`has machine ${nowhere.machine} of an unknown site`);
  const homeless = rest.issuers.find(({ site }) => site !== undefined && numberOfSite(rest, site) === undefined);
  if (homeless !== undefined) throw new TrustListInvalid(`has issuer ${homeless.name} of an unknown site`);
  return rest;
}

/** A site's number in overlay addresses; undefined for what is no site of the fleet. */
export function numberOfSite({ sites }: TrustList, site: string): number | undefined {
  return Object.hasOwn(sites, site) ? sites[site] : undefined;
}

/** JSON, as it is signed. Throws `TrustListInvalid`. */
export function writeTrustList(list: TrustList): Buffer {
  const json = JSON.parse(JSON.stringify({ format: 1, ...list }));
  readTrustList(json);
  const bytes = Buffer.from(JSON.stringify(json));
  if (bytes.length > TRUST_LIST_BYTES) throw new TrustListInvalid(`has more than ${TRUST_LIST_BYTES} bytes`);
  return bytes;
}
