/** A member, as far as packets between it and this node matter. All of it from its certificate, but for `endpoints`. */
export interface OverlayMember {
  /** Base64. */
  readonly publicKey: string;
  /** In the overlay, without a prefix length. */
  readonly address: string;
  readonly site: string;
  /** The /64 of its site. */
  readonly siteNetwork: string;
  /** Its certificate lets it carry its site's packets. */
  readonly gateway: boolean;
  /** Where it says that it is to be found; the best first. */
  readonly endpoints: readonly string[];
}

/** What this node's WireGuard interface is to know of one member, and nothing besides. */
export interface PlannedPeer {
  readonly publicKey: string;
  /** Blocks, sorted. Never what a peer claims: its own address, and its site's where it is that site's gateway. */
  readonly allowedIps: readonly string[];
  readonly endpoints: readonly string[];
}

/**
 * The peers of this node: all members of its site, and of each other site the gateways. Of several gateways of one site
 * one carries the site's packets, since an address belongs to one peer alone: the first in `order`.
 * @param order of gateways of one site, such as by since when they are members
 */
export function planPeers(
  own: Pick<OverlayMember, 'publicKey' | 'site'>,
  members: Iterable<OverlayMember>,
  order: (a: OverlayMember, b: OverlayMember) => number,
): PlannedPeer[] {
  const others = [...members].filter(({ publicKey }) => publicKey !== own.publicKey);
  const remote = Map.groupBy(
    others.filter(({ site, gateway }) => gateway && site !== own.site),
    ({ site }) => site,
  );
  const carriers = new Set([...remote.values()].map((gateways) => gateways.toSorted(order)[0]?.publicKey));
  return others
    .filter(({ site, gateway }) => site === own.site || gateway)
    .map(({ publicKey, address, siteNetwork, endpoints }) => ({
      publicKey,
      allowedIps: [`${address}/128`, ...(carriers.has(publicKey) ? [siteNetwork] : [])].toSorted(),
      endpoints,
    }));
}
