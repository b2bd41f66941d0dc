import { writeFile } from 'node:fs/promises';
import { stringify } from 'yaml';
import { type BootMode, type FleetDescription, type FleetNode, formatDescription } from '../fleet/description.ts';
import { loadIdentity } from '../fleet/identity.ts';
import { type CertifiedFleet, makeFleet } from './certified-fleet.ts';
import type { LabDirectory } from './lab-state.ts';
import type { AddressPair, Topology } from './topology.ts';
import { NODE_INTERFACE } from './topology.ts';

/** Where an agent of the lab listens. */
export const SWARM_PORT = 4001;
export const GATEWAY_PORT = 8080;
/** WireGuard's on the first node. Each has its own: behind one NAT, two of one port could not both keep it. */
const OVERLAY_PORT = 51_820;

/** A node of a lab with all that its agent, a test or a person may want to know of it. */
export interface LabNode {
  readonly name: string;
  readonly site: string;
  readonly segment: string;
  readonly peerId: string;
  readonly namespace: string;
  /** Its one network interface. */
  readonly interface: string;
  readonly addresses: AddressPair;
  readonly router: AddressPair;
  /** What others dial, without the closing `/p2p/`. */
  readonly multiaddrs: readonly string[];
  /** Base URLs of its gateway, as its neighbours reach it. */
  readonly gateways: readonly string[];
  /** Addresses for bare machines of its segment; absent without IPv4. */
  readonly pool?: { readonly from: string; readonly to: string };
  /** How it answers bare machines: what the description says, else auto where its segment has any, else off. */
  readonly boot: BootMode;
  /** In a fleet with an overlay. */
  readonly overlay?: LabOverlay;
  /** False for a machine that is to join while the lab is up, by `bootmesh join` in its namespace. */
  readonly enrolled: boolean;
  /** Directory of the fleet's own keys, on the node that holds them in a fleet with an overlay. */
  readonly keys?: string;
  /** The concrete fleet description that all agents of the lab read, unless they are members by certificate. */
  readonly fleetFile: string;
  /** The agent's data directory, configuration file, log (what it prints), and control socket. */
  readonly data: string;
  readonly config: string;
  readonly log: string;
  readonly socket: string;
}

/** A node's WireGuard interface. */
export interface LabOverlay {
  /** Its name, which no other lab on this machine uses. */
  readonly interface: string;
  readonly port: number;
  /** Follows from fleet, site and peer id; also of a machine that is no member yet. */
  readonly address: string;
  /** Where others reach it, besides the addresses of the node. */
  readonly endpoints: readonly string[];
}

/** What the lab writes into an agent's configuration file; a part of what the agent understands. */
export interface AgentConfig {
  readonly data: string;
  readonly fleet?: string;
  readonly node?: string;
  readonly keys?: string;
  readonly channels: readonly string[];
  readonly swarm?: { readonly listen: readonly string[] };
  readonly gateway?: { readonly listen: readonly string[] };
  readonly overlay?: {
    readonly mode: 'auto';
    readonly interface: string;
    readonly port: number;
    readonly endpoints: readonly string[];
  };
  readonly boot: {
    readonly mode: BootMode;
    readonly interface?: string;
    readonly pool?: { readonly from: string; readonly to: string };
    readonly router?: string;
  };
  readonly log: { readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent'; readonly file?: string };
}

/** The configuration of a node's agent unless `labUp` is told otherwise. It logs to what the lab records. */
export function defaultAgentConfig(node: LabNode, { channels }: FleetDescription): AgentConfig {
  const boot = {
    mode: node.boot,
    interface: node.interface,
    ...(node.pool && { pool: node.pool }),
    ...(node.router.ipv4 !== undefined && { router: node.router.ipv4 }),
  };
  const common = { data: node.data, channels, boot, log: { level: 'info' } } as const;
  const { ipv4, ipv6 } = node.addresses;
  if (node.overlay !== undefined) {
    const { address: _, ...overlay } = node.overlay;
    // It listens everywhere, as it does where nobody says otherwise: in the overlay too.
    return { ...common, ...(node.keys !== undefined && { keys: node.keys }), overlay: { mode: 'auto', ...overlay } };
  }
  const listen = [ipv4 && `${ipv4}:${GATEWAY_PORT}`, ipv6 && `[${ipv6}]:${GATEWAY_PORT}`, `127.0.0.1:${GATEWAY_PORT}`];
  return {
    ...common,
    fleet: node.fleetFile,
    node: node.name,
    swarm: { listen: node.multiaddrs },
    gateway: { listen: listen.filter((address) => address !== undefined) },
  };
}

interface Files {
  readonly data: string;
  readonly config: string;
  readonly log: string;
  readonly socket: string;
  readonly fleetFile: string;
}

/** Puts together what plan and description say of the node `name`. */
export function labNode(
  name: string,
  description: FleetDescription,
  topology: Topology,
  files: Files & Pick<LabNode, 'peerId' | 'overlay' | 'keys'>,
): LabNode {
  const planned = topology.nodes[name];
  const described = description.nodes[name];
  if (!planned || !described) throw new TypeError(`the fleet has no node '${name}'`);
  const { addresses, router, site, segment, namespace } = planned;
  const pool = topology.pools[segment];
  return {
    name,
    ...{ site, segment, namespace, addresses, router },
    interface: NODE_INTERFACE,
    multiaddrs: multiaddrsOf(addresses),
    gateways: [
      ...(addresses.ipv4 === undefined ? [] : [`http://${addresses.ipv4}:${GATEWAY_PORT}`]),
      ...(addresses.ipv6 === undefined ? [] : [`http://[${addresses.ipv6}]:${GATEWAY_PORT}`]),
    ],
    ...(pool && { pool }),
    boot: bootMode(described, description),
    enrolled: described.enrolled ?? true,
    ...files,
  };
}

/** Gives every node its key and each agent its configuration; and the fleet its description, or its certificates. */
export async function writeNodes(
  description: FleetDescription,
  topology: Topology,
  directory: LabDirectory,
  configure: (node: LabNode, description: FleetDescription) => object,
  { signal }: { readonly signal: AbortSignal },
): Promise<Record<string, LabNode>> {
  const fleet = description.overlay === true ? await makeFleet(directory.keys, description) : undefined;
  const nodes: Record<string, LabNode> = {};
  for (const [index, [name, described]] of Object.entries(description.nodes).entries()) {
    const files = { ...directory.node(name), fleetFile: directory.fleetFile };
    const { peerId } = await loadIdentity(files.data);
    const overlay = fleet && overlayOf(fleet, { peerId, described, index, topology, name, directory });
    const keys = fleet && described.keys === true ? { keys: directory.keys } : {};
    nodes[name] = labNode(name, description, topology, { ...files, peerId, ...(overlay && { overlay }), ...keys });
  }
  const concrete = concreteDescription(description, Object.values(nodes));
  await writeFile(directory.fleetFile, formatDescription(concrete), { mode: 0o600 });
  for (const node of Object.values(nodes)) {
    await writeFile(node.config, stringify(configure(node, concrete), { aliasDuplicateObjects: false }), {
      mode: 0o600,
    });
  }
  await fleet?.enrol(Object.values(nodes), { signal });
  return nodes;
}

interface OverlayFacts {
  readonly name: string;
  readonly peerId: string;
  readonly described: FleetNode;
  readonly index: number;
  readonly topology: Topology;
  readonly directory: LabDirectory;
}

function overlayOf(fleet: CertifiedFleet, facts: OverlayFacts): LabOverlay {
  const { name, peerId, described, index, topology, directory } = facts;
  const port = OVERLAY_PORT + index;
  const { ipv4, ipv6 } = topology.nodes[name]?.addresses ?? {};
  const own = [ipv4 && `${ipv4}:${port}`, ipv6 && `[${ipv6}]:${port}`].filter((place) => place !== undefined);
  return {
    interface: `${directory.interfacePrefix}${index + 1}`,
    port,
    address: fleet.address(described.site, peerId),
    endpoints: described.roles.includes('gateway') ? own : [],
  };
}

function multiaddrsOf({ ipv4, ipv6 }: AddressPair): string[] {
  return [
    ...(ipv4 === undefined ? [] : [`/ip4/${ipv4}/tcp/${SWARM_PORT}`]),
    ...(ipv6 === undefined ? [] : [`/ip6/${ipv6}/tcp/${SWARM_PORT}`]),
  ];
}

function bootMode(node: FleetNode, { machines, segments }: FleetDescription): BootMode {
  if (node.boot !== undefined) return node.boot;
  const bare = Object.values(machines).some((machine) => machine.segment === node.segment);
  return bare && segments[node.segment]?.families.includes('ipv4') ? 'auto' : 'off';
}

/** The description with the peer ids and addresses that the nodes of a lab really have. */
export function concreteDescription(description: FleetDescription, nodes: readonly LabNode[]): FleetDescription {
  const concrete = nodes.map((node) => {
    const { peerId, multiaddrs: addresses } = node;
    return [node.name, { ...(description.nodes[node.name] as FleetNode), peerId, addresses }] as const;
  });
  return { ...description, nodes: Object.fromEntries(concrete) };
}
