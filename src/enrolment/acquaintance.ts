import type { MemberRole } from '../fleet/trust-list.ts';

export interface Candidate {
  readonly peerId: string;
  readonly site: string;
  readonly roles: readonly MemberRole[];
}

export interface AcquaintanceOptions {
  /** Members of the own site that a node keeps connected to. @default 64 */
  readonly near: number;
  /** …and of all others. @default 16 */
  readonly far: number;
}

export const ACQUAINTANCE_DEFAULTS: AcquaintanceOptions = { near: 64, far: 16 };

/** Those who are there for others come first among the members of other sites. */
const USEFUL: readonly MemberRole[] = ['gateway', 'origin', 'seed'];

/**
 * Whom of a fleet, however large, a node keeps connected to; pure. All of its site when they are few, and a few of the
 * others, those first whom an issuer has made useful. Beyond that each node has an order of its own, so that the
 * connections of all of them together make one network. Neither devices, which speak WireGuard alone, nor the node itself.
 */
export function acquaintances<T extends Candidate>(
  own: Pick<Candidate, 'peerId' | 'site'>,
  members: Iterable<T>,
  { near, far }: AcquaintanceOptions = ACQUAINTANCE_DEFAULTS,
): T[] {
  const others = [...members].filter(({ peerId, roles }) => peerId !== own.peerId && !roles.includes('device'));
  const ofSite = others.filter(({ site }) => site === own.site);
  const outside = others.filter(({ site }) => site !== own.site);
  const ours = numberOf(own.peerId);
  const chance = new Map(others.map(({ peerId }) => [peerId, chanceOf(ours, numberOf(peerId))]));
  const byChance = (a: T, b: T) => (chance.get(a.peerId) ?? 0) - (chance.get(b.peerId) ?? 0);
  const useful = ({ roles }: T) => (roles.some((role) => USEFUL.includes(role)) ? 0 : 1);
  const pick = (all: T[], most: number, order: (a: T, b: T) => number) =>
    all.length <= most ? all : all.toSorted(order).slice(0, most);
  return [...pick(ofSite, near, byChance), ...pick(outside, far, (a, b) => useful(a) - useful(b) || byChance(a, b))];
}

/** The same at both ends of a pair, so that one does not want what the other lets go of. */
function chanceOf(a: number, b: number): number {
  // MurmurHash3's last step: ids that differ by little are as far apart as any.
  let hash = a ^ b;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** 32 bits of a peer id (FNV-1a). */
function numberOf(peerId: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < peerId.length; at += 1) hash = Math.imul(hash ^ peerId.charCodeAt(at), 0x01000193);
  return hash;
}
