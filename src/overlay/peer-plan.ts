/** A member, as far as packets between it and this node matter. All of it from its certificate, but for `endpoints`. */
export interface OverlayMember {
  /** Base64. */
  readonly publicKey: string;
  /** In the overlay, without a prefix length. */
  readonly address: string;
  readonly site: string;
  /** The /64 of its site. */
  readonly siteNetwork: string;
  /** Its certificate lets it carry packets between its site and others. */
  readonly gateway: boolean;
  /** Where it says that it is to be found; the best first. */
  readonly endpoints: readonly string[];
}

/** What this node's WireGuard interface is to know of one member, and nothing besides. */
export interface PlannedPeer {
  readonly publicKey: string;
  /** Blocks, sorted. Never what a peer claims. */
  readonly allowedIps: readonly string[];
  readonly endpoints: readonly string[];
}

/**
 * The peers of this node. All members of its own site, each by its address; and for what is further, gateways: a gateway
 * knows those of the other sites, each site's network behind one of them, and the other nodes of a site know all those
 * networks behind their own gateway. A packet between two sites so takes node, gateway, gateway, node, the same way back,
 * and each hop takes from its neighbour what may come from there, and nothing else: WireGuard has one peer for each
 * address, to send it and to believe it.
 * @param order of gateways of one site, such as by since when they are members: the first carries its site's packets
 */
export function planPeers(
  own: Pick<OverlayMember, 'publicKey' | 'site' | 'gateway'>,
  members: Iterable<OverlayMember>,
  order: (a: OverlayMember, b: OverlayMember) => number,
): PlannedPeer[] {
  const others = [...members].filter(({ publicKey }) => publicKey !== own.publicKey);
  const near = others.filter(({ site }) => site === own.site);
  const carriers = carriersOf(
    others.filter(({ site, gateway }) => gateway && site !== own.site),
    order,
  );
  const behind = new Map<string, string[]>();
  if (own.gateway) {
    for (const { publicKey, siteNetwork } of carriers) behind.set(publicKey, [siteNetwork]);
  } else {
    const [carrier] = near.filter(({ gateway }) => gateway).toSorted(order);
    if (carrier !== undefined) {
      behind.set(
        carrier.publicKey,
        carriers.map(({ siteNetwork }) => siteNetwork),
      );
    }
  }
  const known = own.gateway ? [...near, ...others.filter(({ site, gateway }) => gateway && site !== own.site)] : near;
  return known.map(({ publicKey, address, endpoints }) => ({
    publicKey,
    allowedIps: [`${address}/128`, ...(behind.get(publicKey) ?? [])].toSorted(),
    endpoints,
  }));
}

/** Of each site the gateway that carries its packets. */
function carriersOf(
  gateways: readonly OverlayMember[],
  order: (a: OverlayMember, b: OverlayMember) => number,
): OverlayMember[] {
  const sites = Map.groupBy(gateways, ({ site }) => site);
  return [...sites.values()].flatMap((each) => each.toSorted(order)[0] ?? []);
}
