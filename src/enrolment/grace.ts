import type { Certificate } from '../fleet/certificate.ts';
import type { MemberRole } from '../fleet/trust-list.ts';

/** Of the node that decides, at this moment. */
export interface GraceFacts {
  /** Undefined while it has never had a certificate. */
  readonly site: string | undefined;
  /** It may sign certificates: for one site, or for all. Undefined on a node that may not. */
  readonly admits: { readonly site?: string | undefined } | undefined;
  /** Somebody who may renew for its site has been in reach for long enough. */
  readonly issuerInReach: boolean;
}

const DAY_S = 86_400;
const MOST_S = 30 * DAY_S;
/** What machines have that are let in by their hardware, whose certificates live no longer. */
const LEAST_S = DAY_S;
/** Getting a release first gives no power over others. Whoever carries or gives out what others depend on has no grace. */
const UNPRIVILEGED: readonly MemberRole[] = ['canary'];

/**
 * For how long a certificate counts beyond its end; pure. It is for the site whose issuer is off: a node accepts its own
 * site's machines half a life longer, a day at least and 30 at most, as long as nobody is there who could renew them.
 * Only who may renew them accepts them in any case, since otherwise nobody could when it is back. That a certificate was
 * revoked is decided before, and has no grace.
 * @returns seconds
 */
export function graceOf(
  { site, roles, notBefore, notAfter }: Pick<Certificate, 'site' | 'roles' | 'notBefore' | 'notAfter'>,
  node: GraceFacts,
): number {
  if (roles.some((role) => !UNPRIVILEGED.includes(role))) return 0;
  const renews = node.admits !== undefined && (node.admits.site ?? site) === site;
  if (!renews && (site !== node.site || node.issuerInReach)) return 0;
  return Math.min(MOST_S, Math.max(LEAST_S, Math.floor((notAfter - notBefore) / 2)));
}
