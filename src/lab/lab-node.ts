import type { BootMode, FleetDescription, FleetNode } from '../fleet/description.ts';
import type { AddressPair, Topology } from './topology.ts';
import { NODE_INTERFACE } from './topology.ts';

/** Where an agent of the lab listens. */
export const SWARM_PORT = 4001;
export const GATEWAY_PORT = 8080;

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
  /** The concrete fleet description that all agents of the lab read. */
  readonly fleetFile: string;
  /** The agent's data directory, configuration file, log (what it prints), and control socket. */
  readonly data: string;
  readonly config: string;
  readonly log: string;
  readonly socket: string;
}

/** What the lab writes into an agent's configuration file; a part of what the agent understands. */
export interface AgentConfig {
  readonly data: string;
  readonly fleet: string;
  readonly node: string;
  readonly channels: readonly string[];
  readonly swarm: { readonly listen: readonly string[] };
  readonly gateway: { readonly listen: readonly string[] };
  readonly boot: {
    readonly mode: BootMode;
    readonly interface?: string;
    readonly pool?: { readonly from: string; readonly to: string };
    readonly router?: string;
  };
  readonly log: { readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent'; readonly file?: string };
}

/** The configuration of a node's agent unless `labUp` is told otherwise. It logs to what the lab records. */
export function defaultAgentConfig(node: LabNode, description: FleetDescription): AgentConfig {
  const { ipv4, ipv6 } = node.addresses;
  const listen = [ipv4 && `${ipv4}:${GATEWAY_PORT}`, ipv6 && `[${ipv6}]:${GATEWAY_PORT}`, `127.0.0.1:${GATEWAY_PORT}`];
  return {
    data: node.data,
    fleet: node.fleetFile,
    node: node.name,
    channels: description.channels,
    swarm: { listen: node.multiaddrs },
    gateway: { listen: listen.filter((address) => address !== undefined) },
    boot: {
      mode: node.boot,
      interface: node.interface,
      ...(node.pool && { pool: node.pool }),
      ...(node.router.ipv4 !== undefined && { router: node.router.ipv4 }),
    },
    log: { level: 'info' },
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
  files: Files & { readonly peerId: string },
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
    ...files,
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
