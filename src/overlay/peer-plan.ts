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
  /** It is of another site: what is between may forget the way back. */
  readonly far: boolean;
}

/** Of gateways, such as by since when they are members: of several that could carry packets, the first does. */
type Order = (a: OverlayMember, b: OverlayMember) => number;

/**
 * The peers of this node. All members of its own site, each by its address; and for what is further, gateways. A gateway
 * knows those of the other sites, each site's network behind one of them. The other nodes of a site know all other
 * networks behind their own gateway, or, where their site has none, behind the first gateway of the fleet, which knows
 * them one by one. So between any two nodes there is one way, the same in both directions, and each hop takes from its
 * neighbour what may come from there and nothing else: WireGuard has one peer for each address, to send it and to believe
 * it.
 */
export function planPeers(
  own: Pick<OverlayMember, 'publicKey' | 'site' | 'gateway'>,
  members: Iterable<OverlayMember>,
  order: Order,
): PlannedPeer[] {
  const all = [...members];
  const others = all.filter(({ publicKey }) => publicKey !== own.publicKey);
  const gateways = all.filter(({ gateway }) => gateway).toSorted(order);
  const carrierOf = new Map([...Map.groupBy(gateways, ({ site }) => site)].map(([site, [first]]) => [site, first]));
  const near = others.filter(({ site }) => site === own.site);
  const far = others.filter(({ site }) => site !== own.site);
  const [firstOfAll] = gateways;

  const known = [...near];
  /** Networks of other sites, and whose they are. */
  const behind = new Map<string, string[]>();
  const networks = new Map(far.map(({ site, siteNetwork }) => [site, siteNetwork]));
  const put = (network: string, carrier: OverlayMember | undefined) => {
    if (carrier === undefined || carrier.publicKey === own.publicKey) return;
    behind.set(carrier.publicKey, [...(behind.get(carrier.publicKey) ?? []), network]);
  };
  if (own.gateway) {
    const isFirst = firstOfAll?.publicKey === own.publicKey;
    known.push(...far.filter(({ gateway, site }) => gateway || (isFirst && !carrierOf.has(site))));
    for (const [site, network] of networks) put(network, carrierOf.get(site) ?? firstOfAll);
  } else {
    const carrier = carrierOf.get(own.site) ?? firstOfAll;
    if (carrier !== undefined && carrier.site !== own.site) known.push(carrier);
    for (const network of networks.values()) put(network, carrier);
  }
  return known.map(({ publicKey, address, site, endpoints }) => ({
    publicKey,
    allowedIps: [`${address}/128`, ...(behind.get(publicKey) ?? [])].toSorted(),
    endpoints,
    far: site !== own.site,
  }));
}
