import type { SecretKey } from './network.ts';

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
  /** A laptop or a router without an agent: it knows one gateway, and is known by that alone. */
  readonly device: boolean;
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
  /** Seconds. @default what the interface has for near or far peers */
  readonly keepalive?: number;
  readonly presharedKey?: SecretKey;
}

/** Of gateways, such as by since when they are members: of several that could carry packets, the first does. */
type Order = (a: OverlayMember, b: OverlayMember) => number;

/**
 * The peers of this node. All members of its own site, each by its address; and for what is further, gateways. A gateway
 * knows those of the other sites, each site's network behind one of them. The other nodes of a site know all other
 * networks behind their own gateway, or, where their site has none, behind the first gateway of the fleet, which knows
 * them one by one. So between any two nodes there is one way, the same in both directions, and each hop takes from its
 * neighbour what may come from there and nothing else: WireGuard has one peer for each address, to send it and to believe
 * it. Devices are behind the gateway of their site, or the first of all, as a network of one.
 */
export function planPeers(
  own: Pick<OverlayMember, 'publicKey' | 'site' | 'gateway' | 'device'>,
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

  const carrier = carrierOf.get(own.site) ?? firstOfAll;
  const isCarrier = carrier?.publicKey === own.publicKey;
  const known = near.filter(({ device }) => own.device !== true && (device !== true || isCarrier));
  /** Networks of other sites, and whose they are. */
  const behind = new Map<string, string[]>();
  const networks = new Map(far.map(({ site, siteNetwork }) => [site, siteNetwork]));
  const put = (network: string, by: OverlayMember | undefined) => {
    if (by === undefined || by.publicKey === own.publicKey) return;
    behind.set(by.publicKey, [...(behind.get(by.publicKey) ?? []), network]);
  };
  if (own.gateway) {
    const isFirst = firstOfAll?.publicKey === own.publicKey;
    known.push(...far.filter(({ gateway, site }) => gateway || (isFirst && !carrierOf.has(site))));
    for (const [site, network] of networks) put(network, carrierOf.get(site) ?? firstOfAll);
  } else {
    if (carrier !== undefined && !known.includes(carrier)) known.push(carrier);
    for (const network of networks.values()) put(network, carrier);
  }
  for (const { device, address, siteNetwork } of near) {
    if (own.device === true) put(siteNetwork, carrier);
    else if (device === true) put(`${address}/128`, carrier);
  }
  return known.map(({ publicKey, address, site, endpoints }) => ({
    publicKey,
    allowedIps: [...new Set([`${address}/128`, ...(behind.get(publicKey) ?? [])])].toSorted(),
    endpoints,
    far: site !== own.site,
  }));
}
