import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { stringify } from 'yaml';
import { type FleetDescription, formatDescription } from '../fleet/description.ts';
import { loadIdentity } from '../fleet/identity.ts';
import type { CommandOptions, CommandOutput } from '../host/command.ts';
import { type AgentExit, AgentProcess, socketReady } from './agent-process.ts';
import { cleanUp } from './lab-down.ts';
import { concreteDescription, defaultAgentConfig, type LabNode, labNode } from './lab-node.ts';
import { claimDirectory, LabDirectory, type LabState, labDirectory } from './lab-state.ts';
import { Namespace } from './namespace.ts';
import { buildNetwork } from './network.ts';
import { processRef } from './process.ts';
import { assertRequirements } from './requirements.ts';
import { type Counter, readCounter } from './shaping.ts';
import { type Port, planTopology, type Topology } from './topology.ts';
import { type MachineOptions, startMachine, type VirtualMachine } from '../machine/virtual-machine.ts';

export interface LabOptions {
  /** The agent's program and first arguments, e.g. `[node, src/cli/main.ts, up]`; `--config <file>` is added. */
  readonly agentCommand: readonly string[];
  /** Where the lab keeps its state; empty, or a former lab's. @default /var/lib/bootmesh-lab/<fleet> */
  readonly directory?: string;
  /** Nodes whose agents start with the lab. @default all */
  readonly start?: readonly string[];
  /** What goes into an agent's configuration file. @default defaultAgentConfig */
  readonly agentConfig?: (node: LabNode, description: FleetDescription) => object;
  /** Resolves when a started agent can be used. @default its control socket accepts connections */
  readonly ready?: (node: LabNode, options: { readonly signal: AbortSignal }) => Promise<void>;
  /** Milliseconds an agent has to get ready. @default 60_000 */
  readonly readyTimeoutMs?: number;
  /** Leaves configurations, logs and stores in the directory when the lab goes down. @default false */
  readonly keepLogs?: boolean;
  /** Hears what happens, as it happens. */
  readonly onEvent?: (event: LabEvent) => void;
}

export type LabEvent =
  | { readonly type: 'network:up'; readonly namespaces: number }
  | { readonly type: 'agent:start' | 'agent:ready'; readonly node: string; readonly pid: number }
  /** `expected`: we stopped it. */
  | { readonly type: 'agent:exit'; readonly node: string; readonly exit: AgentExit; readonly expected: boolean }
  | { readonly type: 'machine:start' | 'machine:exit'; readonly machine: string; readonly pid: number };

export interface StopOptions {
  /** SIGTERM lets the agent finish; SIGKILL is a crash. @default 'SIGTERM' */
  readonly signal?: 'SIGTERM' | 'SIGKILL';
  /** Milliseconds after which an agent that was asked to end is killed. @default 10_000 */
  readonly graceMs?: number;
}

export type LabMachineOptions = Partial<Pick<MachineOptions, 'boot' | 'reboot' | 'onLine' | 'memoryMb' | 'capture'>>;

/**
 * Brings a described fleet up on this machine and resolves when its agents are ready. Leftovers of a lab that died in
 * the same directory are removed first. When it rejects, or `signal` fires, everything made so far is taken down.
 *
 * Errors: `RequirementsMissing`, `LabBusy`, `LabDirectoryUnusable`, `TopologyError`, `AgentFailed`, `CommandFailed`.
 */
export async function labUp(
  description: FleetDescription,
  options: LabOptions,
  { signal }: { readonly signal: AbortSignal },
): Promise<Lab> {
  signal.throwIfAborted();
  await assertRequirements();
  const directory = new LabDirectory(options.directory ?? labDirectory(description.fleet));
  const topology = planTopology(description, directory.id);
  const owner = await processRef(process.pid);
  if (!owner) throw new TypeError('this process is not in /proc');
  const namespaces = topology.namespaces.map(({ name }) => name);
  const { fleet } = description;
  const state: LabState = { version: 1, fleet, owner, ready: false, namespaces, agents: {}, machines: {} };
  await claimDirectory(directory, state, Object.keys(description.nodes), () => cleanUp(directory));
  await using undo = new AsyncDisposableStack();
  undo.defer(async () => {
    await cleanUp(directory, options);
  });
  const nodes = await writeNodes(description, topology, directory, options.agentConfig ?? defaultAgentConfig);
  await buildNetwork(topology, { signal });
  options.onEvent?.({ type: 'network:up', namespaces: namespaces.length });
  const lab = undo.use(new Lab({ description, topology, directory, state, nodes }, options));
  await Promise.all((options.start ?? Object.keys(nodes)).map((name) => lab.startNode(name, { signal })));
  await lab.markReady();
  undo.move();
  return lab;
}

interface LabParts {
  readonly description: FleetDescription;
  readonly topology: Topology;
  readonly directory: LabDirectory;
  readonly state: LabState;
  readonly nodes: Readonly<Record<string, LabNode>>;
}

/** A fleet that stands on this machine. Disposing takes all of it down. */
export class Lab implements AsyncDisposable {
  /** The lab's own, with the peer ids and addresses that its nodes have. */
  readonly description: FleetDescription;
  readonly topology: Topology;
  readonly nodes: Readonly<Record<string, LabNode>>;
  /** Where its files are. */
  readonly directory: string;
  readonly #directory: LabDirectory;
  readonly #state: LabState;
  readonly #options: LabOptions;
  readonly #agents = new Map<string, AgentProcess>();
  readonly #machines = new Map<string, VirtualMachine>();
  readonly #stopping = new Set<AgentProcess>();
  readonly #over = new AbortController();
  #down: Promise<void> | undefined;

  /** Only `labUp` makes one. */
  constructor(parts: LabParts, options: LabOptions) {
    this.description = concreteDescription(parts.description, Object.values(parts.nodes));
    this.topology = parts.topology;
    this.nodes = parts.nodes;
    this.directory = parts.directory.path;
    this.#directory = parts.directory;
    this.#state = parts.state;
    this.#options = options;
  }

  /** The node by name. @throws {TypeError} when the fleet has none such. */
  node(name: string): LabNode {
    const node = Object.hasOwn(this.nodes, name) ? this.nodes[name] : undefined;
    if (node) return node;
    throw new TypeError(`the lab has no node '${name}': it has ${Object.keys(this.nodes).join(', ')}`);
  }

  /** Pid of the node's agent; undefined when it is not running. */
  pid(name: string): number | undefined {
    return this.#agents.get(this.node(name).name)?.ref.pid;
  }

  /** Starts the node's agent and waits until it is ready; a running one is left alone. */
  async startNode(name: string, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    const node = this.node(name);
    this.#over.signal.throwIfAborted();
    if (this.#agents.has(name)) return;
    const argv = [...this.#options.agentCommand, '--config', node.config];
    const namespace = new Namespace(node.namespace);
    const agent = await AgentProcess.start({ node: name, namespace, argv, log: node.log });
    this.#agents.set(name, agent);
    this.#state.agents[name] = agent.ref;
    void agent.exited.then((exit) => this.#agentExited(agent, exit));
    // Taken down while the process was being made: nobody else knows of it.
    if (this.#over.signal.aborted) await this.stopNode(name, { signal: 'SIGKILL' });
    this.#over.signal.throwIfAborted();
    await this.#save();
    this.#emit({ type: 'agent:start', node: name, pid: agent.ref.pid });
    const ready = this.#options.ready ?? ((_, options) => socketReady(node.socket, options.signal));
    const timeoutMs = this.#options.readyTimeoutMs ?? 60_000;
    const either = AbortSignal.any([signal, this.#over.signal]);
    await agent.whenReady((during) => ready(node, { signal: during }), { signal: either, timeoutMs });
    this.#emit({ type: 'agent:ready', node: name, pid: agent.ref.pid });
  }

  /** Stops the node's agent and waits for its end; undefined when it was not running. */
  async stopNode(name: string, options: StopOptions = {}): Promise<AgentExit | undefined> {
    const agent = this.#agents.get(this.node(name).name);
    if (!agent) return undefined;
    this.#stopping.add(agent);
    return await agent.stop(options.signal ?? 'SIGTERM', options.graceMs ?? 10_000);
  }

  /** Pulls the node's cable out of the switch: its packets and those to it vanish, and nobody is told. */
  async linkDown(name: string): Promise<void> {
    await this.#port(name, 'setDown');
  }

  /** Plugs the cable in again; the node has kept its addresses. */
  async linkUp(name: string): Promise<void> {
    await this.#port(name, 'setUp');
  }

  /** Runs a program in the node's namespace to its end. Rejects with `CommandFailed`. */
  exec(name: string, argv: readonly string[], options: CommandOptions = {}): Promise<CommandOutput> {
    return new Namespace(this.node(name).namespace).run(argv, options);
  }

  /** What the site's uplink has carried: class counters at the sending end of each direction. */
  async uplink(site: string): Promise<{ readonly toSite: Counter; readonly fromSite: Counter }> {
    const ports = Object.hasOwn(this.topology.uplinks, site) ? this.topology.uplinks[site] : undefined;
    if (!ports) throw new TypeError(`the lab has no site '${site}'`);
    const [toSite, fromSite] = await Promise.all([counterOf(ports.toSite), counterOf(ports.fromSite)]);
    return { toSite, fromSite };
  }

  /** What the node's cable has carried; only where it is shaped, by its own `link` or its site's `lan`. */
  async traffic(name: string): Promise<{ readonly toNode: Counter; readonly fromNode: Counter }> {
    const { namespace, interface: own } = this.node(name);
    const port = this.topology.nodes[name]?.port ?? { namespace, interface: own };
    const [toNode, fromNode] = await Promise.all([counterOf(port), counterOf({ namespace, interface: own })]);
    return { toNode, fromNode };
  }

  /** Powers a described machine on, from its PXE ROM unless told otherwise. `signal` covers the start only. */
  async startMachine(
    name: string,
    options: LabMachineOptions,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<VirtualMachine> {
    const planned = Object.hasOwn(this.topology.machines, name) ? this.topology.machines[name] : undefined;
    const described = this.description.machines[name];
    if (!planned || !described) throw new TypeError(`the lab has no machine '${name}'`);
    this.#over.signal.throwIfAborted();
    if (this.#machines.has(name)) throw new TypeError(`machine '${name}' is on already`);
    const serialLog = this.#directory.serialLog(name);
    await mkdir(dirname(serialLog), { recursive: true, mode: 0o700 });
    const { namespace, tap, mac, uuid } = planned;
    const nics = [{ tap, mac, model: described.nic }];
    const memoryMb = Math.floor(described.memory / 1024 ** 2);
    const machine = await startMachine(
      { name, namespace, nics, memoryMb, uuid, serialLog, boot: 'pxe', ...options },
      { signal },
    );
    this.#machines.set(name, machine);
    const ref = await processRef(machine.pid);
    if (ref) this.#state.machines[name] = ref;
    void machine.exited.then(() => this.#machineExited(machine));
    await this.#save();
    this.#emit({ type: 'machine:start', machine: name, pid: machine.pid });
    return machine;
  }

  /** Where a machine's serial port is recorded. */
  serialLog(machine: string): string {
    return this.#directory.serialLog(machine);
  }

  /** For `labUp`: says in the state file that everything stands. */
  async markReady(): Promise<void> {
    this.#state.ready = true;
    await this.#save();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#down ??= this.#takeDown();
    return this.#down;
  }

  async #takeDown(): Promise<void> {
    this.#over.abort(new TypeError('the lab is down'));
    await Promise.allSettled([...this.#machines.values()].map((machine) => machine[Symbol.asyncDispose]()));
    await Promise.allSettled([...this.#agents.keys()].map((name) => this.stopNode(name)));
    await cleanUp(this.#directory, this.#options);
  }

  #agentExited(agent: AgentProcess, exit: AgentExit): void {
    if (this.#agents.get(agent.node) === agent) this.#agents.delete(agent.node);
    delete this.#state.agents[agent.node];
    const expected = this.#stopping.delete(agent);
    this.#emit({ type: 'agent:exit', node: agent.node, exit, expected });
    this.#saveSoon();
  }

  #machineExited(machine: VirtualMachine): void {
    this.#machines.delete(machine.name);
    delete this.#state.machines[machine.name];
    this.#emit({ type: 'machine:exit', machine: machine.name, pid: machine.pid });
    this.#saveSoon();
  }

  async #port(name: string, action: 'setUp' | 'setDown'): Promise<void> {
    const port = this.topology.nodes[this.node(name).name]?.port;
    if (port) await new Namespace(port.namespace)[action](port.interface);
  }

  async #save(): Promise<void> {
    if (!this.#down) await this.#directory.write(this.#state);
  }

  /** For facts that nobody waits for; what the file then lacks is found by the namespaces' names. */
  #saveSoon(): void {
    this.#save().catch(() => undefined);
  }

  #emit(event: LabEvent): void {
    this.#options.onEvent?.(event);
  }
}

/** Gives every node its key, the agents' shared description, and each agent its configuration. */
async function writeNodes(
  description: FleetDescription,
  topology: Topology,
  directory: LabDirectory,
  configure: NonNullable<LabOptions['agentConfig']>,
): Promise<Record<string, LabNode>> {
  const nodes: Record<string, LabNode> = {};
  for (const name of Object.keys(description.nodes)) {
    const files = { ...directory.node(name), fleetFile: directory.fleetFile };
    const { peerId } = await loadIdentity(files.data);
    nodes[name] = labNode(name, description, topology, { ...files, peerId });
  }
  const concrete = concreteDescription(description, Object.values(nodes));
  await writeFile(directory.fleetFile, formatDescription(concrete), { mode: 0o600 });
  for (const node of Object.values(nodes)) {
    await writeFile(node.config, stringify(configure(node, concrete), { aliasDuplicateObjects: false }), {
      mode: 0o600,
    });
  }
  return nodes;
}

function counterOf({ namespace, interface: name }: Port): Promise<Counter> {
  return readCounter(new Namespace(namespace), name);
}
