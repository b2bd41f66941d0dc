import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type AdminClient, connectAdmin } from '../../src/admin/admin-client.ts';
import type { OperationInput } from '../../src/admin/operations.ts';
import type { MemberLine, OverlayLine, PeerLine } from '../../src/admin/results.ts';
import { connect, createNamespace, Namespace } from '../../src/lab/namespace.ts';
import { type CliProcess, type CliRun, startCli } from '../cli/run-cli.ts';

const PATIENCE_MS = 20_000;

/** Machines on one switch, each with a namespace and a data directory: what a user has before the first command. */
export class Machines implements AsyncDisposable {
  readonly folder: string;
  readonly #prefix: string;
  readonly #namespaces: Map<string, Namespace>;
  readonly #env: (name: string) => Record<string, string>;
  readonly #agents = new Map<string, CliProcess>();
  readonly #stack: AsyncDisposableStack;

  private constructor(facts: {
    folder: string;
    prefix: string;
    namespaces: Map<string, Namespace>;
    env: (name: string) => Record<string, string>;
    stack: AsyncDisposableStack;
  }) {
    this.folder = facts.folder;
    this.#prefix = facts.prefix;
    this.#namespaces = facts.namespaces;
    this.#env = facts.env;
    this.#stack = facts.stack;
  }

  /**
   * The n-th of `names` has the address 10.77.9.n, on the one switch that there is; with `sites`, it is on the switch of
   * its site, as 10.77.10.n in the second one, and where it is on the WAN as well 10.99.0.n there.
   */
  static async open(
    label: string,
    names: readonly string[],
    env: (name: string) => Record<string, string> = () => ({}),
    place: (name: string) => { readonly site: number; readonly wan: boolean } = () => ({ site: 0, wan: false }),
  ): Promise<Machines> {
    const prefix = `bm-${label}${process.pid}-`;
    const folder = await mkdtemp(join(tmpdir(), 'bm-machines-'));
    await using stack = new AsyncDisposableStack();
    stack.defer(() => rm(folder, { recursive: true, force: true }));
    const hub = stack.use(await createNamespace(`${prefix}switch`));
    for (const bridge of new Set(names.map((name) => `br${place(name).site}`))) await hub.addBridge(bridge);
    await hub.addBridge('wan');
    const namespaces = new Map<string, Namespace>();
    for (const [index, name] of names.entries()) {
      const namespace = stack.use(await createNamespace(prefix + name));
      const { site, wan } = place(name);
      const plug = (to: string, bridge: string, address: string) =>
        connect(
          { namespace, interface: to, addresses: [`${address}.${index + 1}/24`] },
          { namespace: hub, interface: `${bridge}p${index}`, bridge },
        );
      await plug('eth0', `br${site}`, `10.77.${9 + site}`);
      // Multicast needs a way to anywhere, and a site behind a NAT has one.
      await namespace.addRoute('default', `10.77.${9 + site}.254`);
      if (wan) await plug('eth1', 'wan', '10.99.0');
      namespaces.set(name, namespace);
    }
    return new Machines({ folder, prefix, namespaces, env, stack: stack.move() });
  }

  namespace(name: string): Namespace {
    const namespace = this.#namespaces.get(name);
    assert.ok(namespace, `no machine ${name}`);
    return namespace;
  }

  /**
   * A router, `nat1` and so on, between a site's switch and the WAN, that hides the site behind 10.99.0.(200 + site).
   * @param ports kept: an endpoint that one sees, all reach (as far as they were sent something); random: none does
   */
  async addNat(site: number, ports: 'kept' | 'random'): Promise<void> {
    const namespace = this.#stack.use(await createNamespace(`${this.#prefix}nat${site}`));
    this.#namespaces.set(`nat${site}`, namespace);
    const hub = new Namespace(`${this.#prefix}switch`);
    const inside = { namespace, interface: 'eth0', addresses: [`10.77.${9 + site}.254/24`] };
    await connect(inside, { namespace: hub, interface: `br${site}r`, bridge: `br${site}` });
    const outside = { namespace, interface: 'eth1', addresses: [`10.99.0.${200 + site}/24`] };
    await connect(outside, { namespace: hub, interface: `wanr${site}`, bridge: 'wan' });
    await namespace.sysctl('net.ipv4.ip_forward=1');
    const masquerade = ports === 'random' ? 'masquerade fully-random' : 'masquerade';
    await namespace.run(['nft', 'add table ip nat']);
    await namespace.run(['nft', 'add chain ip nat post { type nat hook postrouting priority 100 ; }']);
    await namespace.run(['nft', `add rule ip nat post oifname eth1 ${masquerade}`]);
    // As routers do. One that answers strangers itself takes the port from the machine that is about to use it.
    await namespace.run(['nft', 'add chain ip nat in { type filter hook input priority 0 ; }']);
    await namespace.run(['nft', 'add rule ip nat in iifname eth1 ct state new drop']);
  }

  start(name: string, ...args: readonly string[]): CliProcess {
    const common = { BOOTMESH_LOG_LEVEL: 'warn', NODE_COMPILE_CACHE: join(this.folder, 'code') };
    const env = { BOOTMESH_DATA: join(this.folder, name), ...common, ...this.#env(name) };
    return startCli(args, { namespace: this.#prefix + name, env });
  }

  async run(name: string, ...args: readonly string[]): Promise<CliRun> {
    return await this.start(name, ...args).done;
  }

  /** The last line of what the command says with `--json`; it must succeed. */
  async json<T>(name: string, ...args: readonly string[]): Promise<T> {
    const run = await this.run(name, ...args, '--json');
    assert.equal(run.code, 0, run.stdout + run.stderr);
    return run.json() as T;
  }

  async up(name: string, args: readonly string[] = ['up']): Promise<void> {
    const agent = this.start(name, ...args);
    this.#agents.set(name, agent);
    await agent.waitFor(/is up on/);
  }

  async down(name: string, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.#agents.get(name)?.child.kill(signal);
    await this.#agents.get(name)?.done;
  }

  /** What the running agent says, as `bootmesh fleet ls` does, without starting a program for it. */
  async members(name: string): Promise<readonly MemberLine[]> {
    return (await (await this.#agent(name)).members({}, asking())).members;
  }

  /** …`peers`… */
  async peers(name: string): Promise<readonly PeerLine[]> {
    return (await (await this.#agent(name)).peers({}, asking())).peers;
  }

  /** …and `overlay status`. */
  async overlay(name: string): Promise<OverlayLine> {
    return await (await this.#agent(name)).overlay({}, asking());
  }

  /** Names of those that are connected, sorted. */
  async peersOf(name: string): Promise<string[]> {
    return (await this.peers(name)).flatMap((peer) => (peer.connected ? (peer.name ?? peer.peerId) : [])).toSorted();
  }

  /** Milliseconds that it took. */
  async untilPeers(name: string, expected: readonly string[]): Promise<number> {
    const from = performance.now();
    for (;;) {
      const peers = await this.peersOf(name);
      if (peers.join() === expected.toSorted().join()) return performance.now() - from;
      assert.ok(performance.now() - from < PATIENCE_MS, `${name} has ${peers}, and not ${expected}`);
      await delay(100);
    }
  }

  /** A token. */
  async invite(name: string, facts: OperationInput<'invite'> = {}): Promise<string> {
    return (await (await this.#agent(name)).invite(facts, asking())).token;
  }

  /** Joins the fleet of `host` as `name`, and starts. */
  async join(name: string, host: string, facts: OperationInput<'invite'> = {}): Promise<void> {
    await this.json(name, 'join', await this.invite(host, facts), '--name', name);
    await this.up(name);
  }

  /** Gets an answer of the node at this address of the overlay: its page of status. */
  async reaches(from: string, address: string | undefined): Promise<boolean> {
    const argv = ['curl', '--silent', '--fail', '--max-time', '2', `http://[${address}]:8080/status`];
    return await this.namespace(from)
      .run(argv)
      .then(
        () => true,
        () => false,
      );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async #agent(name: string): Promise<AdminClient> {
    const agent = await connectAdmin(join(this.folder, name));
    assert.ok(agent, `no agent runs on ${name}`);
    return agent;
  }
}

function asking() {
  return { signal: AbortSignal.timeout(PATIENCE_MS) };
}

/** Fails when it is not so within the time. */
export async function until(met: () => Promise<boolean>, what: string, ms = 20_000): Promise<void> {
  const from = performance.now();
  while (!(await met())) {
    assert.ok(performance.now() - from < ms, `not within ${ms} ms: ${what}`);
    await delay(150);
  }
}
