import { createHash } from 'node:crypto';
import type { FleetDescription, Nat, Site } from '../fleet/description.ts';
import { UNLIMITED } from './shaping.ts';

/** One end of a planned cable. `rate`: what it may send, in bits per second; not shaped when absent. */
export interface PlannedEnd {
  readonly namespace: string;
  readonly interface: string;
  readonly bridge?: string;
  readonly addresses?: readonly string[];
  readonly mac?: string;
  readonly rate?: number;
}

export interface PlannedRoute {
  readonly namespace: string;
  readonly to: string;
  readonly via: string;
}

/** An interface of a namespace. */
export interface Port {
  readonly namespace: string;
  readonly interface: string;
}

/** Addresses without prefix length. A segment of one family has only that one. */
export interface AddressPair {
  readonly ipv4?: string;
  readonly ipv6?: string;
}

export interface PlannedNode {
  readonly namespace: string;
  readonly site: string;
  readonly segment: string;
  readonly addresses: AddressPair;
  /** The segment's router, the default route. */
  readonly router: AddressPair;
  /** The other end of the node's cable, at the segment's bridge. */
  readonly port: Port;
}

export interface PlannedMachine {
  /** The segment's namespace, where QEMU runs. */
  readonly namespace: string;
  readonly tap: string;
  readonly mac: string;
  readonly uuid: string;
  /** What its segment lets it receive, in bits per second. */
  readonly rate?: number;
}

/** All that a lab consists of, by name, before any of it exists. */
export interface Topology {
  /** What the names of all its namespaces start with, e.g. `bm-1a2b3c-`. */
  readonly prefix: string;
  readonly namespaces: readonly { readonly name: string; readonly bridge: boolean; readonly router: boolean }[];
  readonly cables: readonly (readonly [PlannedEnd, PlannedEnd])[];
  readonly routes: readonly PlannedRoute[];
  /** Routers that hide what is behind them, and their interface to the WAN. */
  readonly nats: readonly (Port & { readonly ports: Nat })[];
  readonly nodes: Readonly<Record<string, PlannedNode>>;
  readonly machines: Readonly<Record<string, PlannedMachine>>;
  /** Per site the interfaces whose counters say what its uplink carried. */
  readonly uplinks: Readonly<Record<string, { readonly toSite: Port; readonly fromSite: Port }>>;
  /** Routers' interfaces at segments with IPv6 and bare machines, which solicit routers. */
  readonly solicited: readonly Port[];
  /** Per segment with IPv4 the addresses that a DHCP server may give to bare machines. */
  readonly pools: Readonly<Record<string, { readonly from: string; readonly to: string }>>;
}

/** The description asks for more than the lab's address plan holds. */
export class TopologyError extends Error {
  readonly code = 'TOPOLOGY';

  constructor(message: string) {
    super(message);
    this.name = 'TopologyError';
  }
}

/** The switch of a segment or of the WAN, and the one interface of a node. */
export const BRIDGE = 'br0';
export const NODE_INTERFACE = 'eth0';
/** One octet of 10.77.x.0/24 numbers sites and segments. */
const MAX_NUMBER = 254;
/** Nodes are .11 to .99, the pool for bare machines .100 to .199. */
const MAX_NODES = 89;

/** Plans a lab; pure: equal arguments, equal plan. `id` is a short word that is unique among this machine's labs. */
export function planTopology(description: FleetDescription, id: string): Topology {
  const plan = new Plan(description, id);
  refuseTooMany('sites', plan.sites.length, MAX_NUMBER);
  refuseTooMany('segments', plan.segments.length, MAX_NUMBER);
  const nodes = plan.nodes();
  const machines = plan.machines();
  return {
    prefix: plan.prefix,
    namespaces: [
      { name: plan.wan, bridge: true, router: false },
      ...plan.sites.map((site) => ({ name: plan.router(site), bridge: false, router: true })),
      ...plan.segments.map((segment) => ({ name: plan.segment(segment), bridge: true, router: false })),
      ...Object.values(nodes).map((node) => ({ name: node.namespace, bridge: false, router: false })),
    ],
    cables: [...plan.wanCables(), ...plan.segmentCables(), ...plan.nodeCables(nodes)],
    routes: [...plan.siteRoutes(), ...plan.nodeRoutes(nodes)],
    nats: plan.nats(),
    nodes,
    machines,
    uplinks: Object.fromEntries(plan.sites.map((site) => [site, plan.uplink(site)])),
    solicited: plan.solicited(),
    pools: plan.pools(),
  };
}

function refuseTooMany(what: string, count: number, limit: number): void {
  if (count > limit)
    throw new TopologyError(`the lab holds at most ${limit} ${what}, and the description has ${count}`);
}

/** The numbering behind a topology: sites and segments are numbered from 1 in the description's order. */
class Plan {
  readonly prefix: string;
  readonly wan: string;
  readonly sites: readonly string[];
  readonly segments: readonly string[];
  readonly #description: FleetDescription;
  /** A unique local prefix (RFC 4193 section 3.1) with a global id that follows from the fleet's name. */
  readonly #ula: string;

  constructor(description: FleetDescription, id: string) {
    this.prefix = `bm-${id}-`;
    this.wan = `${this.prefix}wan`;
    this.#description = description;
    this.sites = Object.keys(description.sites);
    this.segments = Object.keys(description.segments);
    const hash = createHash('sha256').update(`bootmesh lab ${description.fleet}`).digest('hex');
    const group = (at: number) => Number.parseInt(hash.slice(at, at + 4), 16).toString(16);
    this.#ula = `fd${hash.slice(0, 2)}:${group(2)}:${group(6)}`;
  }

  router(site: string): string {
    return `${this.prefix}r-${site}`;
  }

  segment(segment: string): string {
    return `${this.prefix}s-${segment}`;
  }

  uplink(site: string): { toSite: Port; fromSite: Port } {
    return {
      toSite: { namespace: this.wan, interface: `w${this.#siteNumber(site)}` },
      fromSite: { namespace: this.router(site), interface: 'wan' },
    };
  }

  nodes(): Record<string, PlannedNode> {
    const counts = new Map<string, number>();
    const nodes: Record<string, PlannedNode> = {};
    for (const [name, { site, segment }] of Object.entries(this.#description.nodes)) {
      const number = (counts.get(segment) ?? 0) + 1;
      counts.set(segment, number);
      refuseTooMany(`nodes on one segment ('${segment}')`, number, MAX_NODES);
      nodes[name] = {
        namespace: `${this.prefix}n-${name}`,
        ...{ site, segment },
        addresses: this.#addresses(segment, 10 + number),
        router: this.#addresses(segment, 1),
        port: { namespace: this.segment(segment), interface: `p${number}` },
      };
    }
    return nodes;
  }

  machines(): Record<string, PlannedMachine> {
    const entries = Object.entries(this.#description.machines).map(([name, { segment }], index) => {
      const tail = hexPair(index + 1);
      const rate = this.#lan(segment);
      const machine = {
        namespace: this.segment(segment),
        tap: `tap${index + 1}`,
        // 52:54:00 is QEMU's own; no two machines of one lab share the rest.
        mac: `52:54:00:77:${tail}`,
        uuid: `77000000-0000-4000-8000-52540077${tail.replace(':', '')}`,
        ...(rate !== undefined && { rate }),
      };
      return [name, machine] as const;
    });
    return Object.fromEntries(entries);
  }

  /** Each router to the WAN's bridge; both directions are shaped at their sender, so its class counts them. */
  wanCables(): (readonly [PlannedEnd, PlannedEnd])[] {
    return this.sites.map((site) => {
      const { toSite, fromSite } = this.uplink(site);
      const { uplink, nat } = this.#site(site);
      const { up = UNLIMITED, down = UNLIMITED } = uplink ?? {};
      const own = this.#siteNumber(site);
      // Who hides behind an IPv4 address has no other.
      const ipv6 = nat === undefined ? [`${this.#ula}::${own.toString(16)}/64`] : [];
      const addresses = [`10.77.0.${own}/24`, ...ipv6];
      return [
        { ...toSite, bridge: BRIDGE, rate: down },
        { ...fromSite, addresses, rate: up },
      ] as const;
    });
  }

  segmentCables(): (readonly [PlannedEnd, PlannedEnd])[] {
    return this.segments.map((segment) => {
      const rate = this.#lan(segment);
      const shaped = rate !== undefined && { rate };
      const router = this.router(this.#description.segments[segment]?.site ?? '');
      const addresses = withLength(this.#addresses(segment, 1));
      return [
        { namespace: this.segment(segment), interface: 'router', bridge: BRIDGE, ...shaped },
        { namespace: router, interface: `lan${this.#number(segment)}`, addresses, ...shaped },
      ] as const;
    });
  }

  nodeCables(nodes: Readonly<Record<string, PlannedNode>>): (readonly [PlannedEnd, PlannedEnd])[] {
    return Object.entries(nodes).map(([name, node], index) => {
      const lan = this.#lan(node.segment);
      const { up = lan, down = lan } = this.#description.nodes[name]?.link ?? {};
      const own = { namespace: node.namespace, interface: NODE_INTERFACE, mac: `02:77:00:00:${hexPair(index + 1)}` };
      return [
        { ...own, addresses: withLength(node.addresses), ...(up !== undefined && { rate: up }) },
        { ...node.port, bridge: BRIDGE, ...(down !== undefined && { rate: down }) },
      ] as const;
    });
  }

  /**
   * Every router knows the segments of all other sites, as its provider would: those that are not hidden behind a NAT,
   * and from behind one by IPv4 alone.
   */
  siteRoutes(): PlannedRoute[] {
    return this.sites.flatMap((site) =>
      this.segments.flatMap((segment) => {
        const { site: owner = site, families = [] } = this.#description.segments[segment] ?? {};
        if (owner === site || this.#site(owner).nat !== undefined) return [];
        const [namespace, number, via] = [this.router(site), this.#number(segment), this.#siteNumber(owner)];
        const v4 = { namespace, to: `10.77.${number}.0/24`, via: `10.77.0.${via}` };
        const v6 = {
          namespace,
          to: `${this.#ula}:${number.toString(16)}::/64`,
          via: `${this.#ula}::${via.toString(16)}`,
        };
        const both = this.#site(site).nat === undefined;
        return [...(families.includes('ipv4') ? [v4] : []), ...(both && families.includes('ipv6') ? [v6] : [])];
      }),
    );
  }

  nats(): (Port & { readonly ports: Nat })[] {
    return this.sites.flatMap((site) => {
      const ports = this.#site(site).nat;
      return ports === undefined ? [] : [{ ...this.uplink(site).fromSite, ports }];
    });
  }

  nodeRoutes(nodes: Readonly<Record<string, PlannedNode>>): PlannedRoute[] {
    return Object.values(nodes).flatMap(({ namespace, router }) =>
      [router.ipv4, router.ipv6].flatMap((via) => (via === undefined ? [] : [{ namespace, to: 'default', via }])),
    );
  }

  solicited(): Port[] {
    const bare = new Set(Object.values(this.#description.machines).map(({ segment }) => segment));
    return this.segments.flatMap((segment) => {
      const { site = '', families = [] } = this.#description.segments[segment] ?? {};
      if (!bare.has(segment) || !families.includes('ipv6')) return [];
      return [{ namespace: this.router(site), interface: `lan${this.#number(segment)}` }];
    });
  }

  pools(): Record<string, { from: string; to: string }> {
    const withIpv4 = this.segments.filter((name) => this.#description.segments[name]?.families.includes('ipv4'));
    return Object.fromEntries(
      withIpv4.map((name) => [name, { from: this.#ipv4(name, 100), to: this.#ipv4(name, 199) }]),
    );
  }

  #addresses(segment: string, host: number): AddressPair {
    const families = this.#description.segments[segment]?.families ?? [];
    const ipv6 = `${this.#ula}:${this.#number(segment).toString(16)}::${host.toString(16)}`;
    return {
      ...(families.includes('ipv4') && { ipv4: this.#ipv4(segment, host) }),
      ...(families.includes('ipv6') && { ipv6 }),
    };
  }

  #ipv4(segment: string, host: number): string {
    return `10.77.${this.#number(segment)}.${host}`;
  }

  #site(site: string): Site {
    return this.#description.sites[site] ?? {};
  }

  #lan(segment: string): number | undefined {
    return this.#site(this.#description.segments[segment]?.site ?? '').lan;
  }

  #siteNumber(site: string): number {
    return this.sites.indexOf(site) + 1;
  }

  #number(segment: string): number {
    return this.segments.indexOf(segment) + 1;
  }
}

function withLength({ ipv4, ipv6 }: AddressPair): string[] {
  return [...(ipv4 === undefined ? [] : [`${ipv4}/24`]), ...(ipv6 === undefined ? [] : [`${ipv6}/64`])];
}

/** Two octets of a hardware address: 258 → `01:02`. */
function hexPair(number: number): string {
  const hex = number.toString(16).padStart(4, '0').slice(-4);
  return `${hex.slice(0, 2)}:${hex.slice(2)}`;
}
