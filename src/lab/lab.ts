import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { FleetDescription } from '../fleet/description.ts';
import type { CommandOptions, CommandOutput } from '../host/command.ts';
import { type MachineOptions, startMachine, type VirtualMachine } from '../machine/virtual-machine.ts';
import { type AgentExit, AgentProcess, socketReady } from './agent-process.ts';
import { hasJoined } from './certified-fleet.ts';
import { type Cut, Firewall } from './firewall.ts';
import { environmentOf, runVerb } from './lab-control.ts';
import { cleanUp } from './lab-down.ts';
import { concreteDescription, defaultAgentConfig, type LabNode, writeNodes } from './lab-node.ts';
import { type PowerCycle, perform, serveLab } from './lab-server.ts';
import { claimDirectory, LabDirectory, LabNotFound, LabRefused, type LabState, labDirectory } from './lab-state.ts';
import { Namespace } from './namespace.ts';
import { buildNetwork } from './network.ts';
import { processRef } from './process.ts';
import { assertRequirements } from './requirements.ts';
import { type Counter, readCounter } from './shaping.ts';
import { type Port, planTopology, type Topology } from './topology.ts';

/** Agents that start at a time with the lab: more would only wait for the processor, and some for too long. */
const STARTS = 4;

export interface LabOptions {
  /** The agent's program and first arguments, e.g. `[node, src/cli/main.ts, up]`; `--config <file>` is added. */
  readonly agentCommand: readonly string[];
  /** The program that a person types in a node's namespace, see `Lab.bootmesh`. @default agentCommand but for its last word */
  readonly bootmesh?: readonly string[];
  /** Where the lab keeps its state; empty, or a former lab's. @default /var/lib/bootmesh-lab/<fleet> */
  readonly directory?: string;
  /** Nodes whose agents start with the lab. @default all but those that are to join later */
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
  /** Sites that do not reach each other now, or one that reaches nobody. */
  | { readonly type: 'network:cut'; readonly cuts: readonly Cut[] }
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
 * the same directory are removed first. Of a fleet with an overlay the lab makes keys and certificates too. When it
 * rejects, or `signal` fires, everything made so far is taken down.
 *
 * Errors: `RequirementsMissing`, `LabBusy`, `LabDirectoryUnusable`, `TopologyError`, `AgentFailed`, `CommandFailed`.
 */
export async function labUp(
  description: FleetDescription,
  options: LabOptions,
  { signal }: { readonly signal: AbortSignal },
): Promise<Lab> {
  signal.throwIfAborted();
  const nat = Object.values(description.sites).some((site) => site.nat !== undefined);
  await assertRequirements({ nat, overlay: description.overlay === true });
  const directory = new LabDirectory(options.directory ?? labDirectory(description.fleet));
  const topology = planTopology(description, directory.id);
  const owner = await processRef(process.pid);
  if (!owner) throw new TypeError('this process is not in /proc');
  const namespaces = topology.namespaces.map(({ name }) => name);
  const { fleet } = description;
  const nothing = { agents: {}, machines: {}, cuts: [], overlay: {} };
  const state: LabState = { version: 1, fleet, owner, ready: false, namespaces, ...nothing };
  await claimDirectory(directory, state, Object.keys(description.nodes), () => cleanUp(directory));
  await using undo = new AsyncDisposableStack();
  undo.defer(async () => {
    await cleanUp(directory, options);
  });
  const configure = options.agentConfig ?? defaultAgentConfig;
  const nodes = await writeNodes(description, topology, directory, configure, { signal });
  for (const { name, overlay } of Object.values(nodes)) if (overlay) state.overlay[name] = overlay.address;
  await buildNetwork(topology, { signal });
  options.onEvent?.({ type: 'network:up', namespaces: namespaces.length });
  const lab = undo.use(new Lab({ description, topology, directory, state, nodes }, options));
  const members = Object.values(nodes).filter(({ enrolled }) => enrolled);
  const queue = [...(options.start ?? members.map(({ name }) => name))];
  const starter = async () => {
    for (let name = queue.shift(); name !== undefined; name = queue.shift()) await lab.startNode(name, { signal });
  };
  await Promise.all(Array.from({ length: STARTS }, starter));
  await lab.serve();
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
  readonly #firewall: Firewall;
  readonly #listeners = new Set<(event: LabEvent) => void>();
  #server: AsyncDisposable | undefined;
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
    const { prefix, uplinks } = parts.topology;
    this.#firewall = new Firewall(new Namespace(`${prefix}wan`), (site) => uplinks[site]?.toSite.interface ?? '');
  }

  /** The node by name. @throws {LabNotFound} */
  node(name: string): LabNode {
    const node = Object.hasOwn(this.nodes, name) ? this.nodes[name] : undefined;
    if (node) return node;
    throw LabNotFound.unknown('node', name, Object.keys(this.nodes));
  }

  /** Names of the site's nodes, in the description's order. @throws {LabNotFound} */
  nodesOf(site: string): string[] {
    const { sites } = this.description;
    if (!Object.hasOwn(sites, site)) throw LabNotFound.unknown('site', site, Object.keys(sites));
    return Object.values(this.nodes).flatMap((node) => (node.site === site ? [node.name] : []));
  }

  /** Pid of the node's agent; undefined when it is not running. */
  pid(name: string): number | undefined {
    return this.#agents.get(this.node(name).name)?.ref.pid;
  }

  /**
   * Starts the node's agent and waits until it is ready; a running one is left alone. Rejects with `AgentFailed`, and with
   * `LabRefused` for a machine that has not joined yet.
   */
  async startNode(name: string, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    const node = this.node(name);
    this.#over.signal.throwIfAborted();
    if (this.#agents.has(name)) return;
    if (!node.enrolled && !(await hasJoined(node.data))) {
      const advice = `bootmesh lab exec ${name} -- bootmesh join TOKEN`;
      throw new LabRefused(`${name} is no member of the fleet yet, and would be one of its own: ${advice}`);
    }
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

  /**
   * Cuts the WAN: no packet passes between the two sites, or between the one and any other. What a third site carries
   * from one to the other passes. Adds to earlier cuts. Rejects with `LabNotFound`.
   */
  async partition(site: string, other?: string): Promise<void> {
    this.nodesOf(site);
    if (other !== undefined) this.nodesOf(other);
    if (site === other) throw new LabRefused(`a site cannot be cut from itself: name two, or ${site} alone`);
    await this.#firewall.cut(site, other);
    await this.#saveCuts();
  }

  /** All sites reach each other again. */
  async heal(): Promise<void> {
    await this.#firewall.mend();
    await this.#saveCuts();
  }

  get cuts(): readonly Cut[] {
    return this.#firewall.cuts;
  }

  /**
   * A power cut at a site: all of its agents that run are killed at once, and start again together. Its bare machines go
   * on. Rejects with `LabNotFound` and `AgentFailed`.
   */
  async powerCycle(site: string, { signal }: { readonly signal: AbortSignal }): Promise<PowerCycle> {
    const nodes = this.nodesOf(site).filter((name) => this.#agents.has(name));
    const from = performance.now();
    await Promise.all(nodes.map((name) => this.stopNode(name, { signal: 'SIGKILL' })));
    await Promise.all(nodes.map((name) => this.startNode(name, { signal })));
    return { site, nodes, milliseconds: Math.round(performance.now() - from) };
  }

  /**
   * Runs a program in the node's namespace to its end; `bootmesh` there speaks to the node's own agent. Rejects with
   * `CommandFailed`.
   */
  exec(name: string, argv: readonly string[], options: CommandOptions = {}): Promise<CommandOutput> {
    const { namespace, config } = this.node(name);
    return new Namespace(namespace).run(argv, { env: environmentOf(config), ...options });
  }

  /**
   * What `bootmesh ARGS --json` says in the node's namespace, where it speaks to the node's own agent or works on its data
   * directory. It has all the time that `options` give it. Rejects with `VerbFailed`.
   */
  async bootmesh<T>(name: string, args: readonly string[], options: CommandOptions = {}): Promise<T> {
    const { bootmesh = this.#options.agentCommand.slice(0, -1) } = this.#options;
    return (await runVerb(
      (argv) => this.exec(name, argv, { timeoutMs: 0, ...options }),
      [...bootmesh, ...args, '--json'],
    )) as T;
  }

  /** What the site's uplink has carried: class counters at the sending end of each direction. */
  async uplink(site: string): Promise<{ readonly toSite: Counter; readonly fromSite: Counter }> {
    const ports = Object.hasOwn(this.topology.uplinks, site) ? this.topology.uplinks[site] : undefined;
    if (!ports) throw LabNotFound.unknown('site', site, Object.keys(this.topology.uplinks));
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

  /** For `labUp`: takes requests of other processes from now on. */
  async serve(): Promise<void> {
    this.#server = await serveLab(this.#directory.socket, async (request, { signal, onEvent }) => {
      this.#listeners.add(onEvent);
      try {
        return await perform(this, request, signal);
      } finally {
        this.#listeners.delete(onEvent);
      }
    });
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
    await this.#server?.[Symbol.asyncDispose]();
    await Promise.allSettled([...this.#machines.values()].map((machine) => machine[Symbol.asyncDispose]()));
    await Promise.allSettled([...this.#agents.keys()].map((name) => this.stopNode(name)));
    await cleanUp(this.#directory, this.#options);
  }

  async #saveCuts(): Promise<void> {
    this.#state.cuts = this.cuts.map((cut) => [...cut]);
    await this.#save();
    this.#emit({ type: 'network:cut', cuts: this.cuts });
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
    for (const hear of this.#listeners) hear(event);
  }
}

function counterOf({ namespace, interface: name }: Port): Promise<Counter> {
  return readCounter(new Namespace(namespace), name);
}
