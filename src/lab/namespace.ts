import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { CommandFailed, type CommandOptions, type CommandOutput, command } from '../host/command.ts';
import { signalProcess } from './process.ts';

/** Where iproute2 keeps its named namespaces. */
const NETNS_DIRECTORY = '/run/netns';
/** IFNAMSIZ of linux/if.h, less the closing NUL. */
const MAX_INTERFACE_NAME = 15;

/**
 * Settings of every new namespace: addresses are usable at once (no duplicate address detection, RFC 4862 section
 * 5.4, which would hold an address back for a second), and nobody but us hands out routes.
 */
const SYSCTLS = [
  'net.ipv6.conf.all.accept_dad=0',
  'net.ipv6.conf.default.accept_dad=0',
  'net.ipv6.conf.all.accept_ra=0',
  'net.ipv6.conf.default.accept_ra=0',
];

/** One end of a virtual cable. */
export interface LinkEnd {
  readonly namespace: Namespace;
  /** Interface name, at most 15 characters. */
  readonly interface: string;
  /** A bridge of the same namespace that this end is plugged into. */
  readonly bridge?: string;
  /** Addresses with prefix length, e.g. `10.77.1.11/24`, `fd00::11/64`. */
  readonly addresses?: readonly string[];
  /** Hardware address, e.g. `52:54:00:77:01:0b`. @default chosen by the kernel */
  readonly mac?: string;
}

/**
 * A network namespace of this machine. Nothing in it shows in the host's own network: cables run from namespace to
 * namespace, so that removing the namespaces removes everything. Disposing ends the processes that still run in it.
 *
 * Every method rejects with `CommandFailed` when `ip` refuses.
 */
export class Namespace implements AsyncDisposable {
  readonly name: string;

  /** An existing namespace by name; `createNamespace` makes one. */
  constructor(name: string) {
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name)) throw new TypeError(`'${name}' cannot name a namespace`);
    this.name = name;
  }

  /** Runs a program in the namespace to its end. */
  run(argv: readonly string[], options: CommandOptions = {}): Promise<CommandOutput> {
    return command(['ip', 'netns', 'exec', this.name, ...argv], options);
  }

  /** Starts a program in the namespace. `pid` is the program's own: `ip netns exec` replaces itself. */
  spawn(argv: readonly string[], options: SpawnOptions = {}): ChildProcess {
    return spawn('ip', ['netns', 'exec', this.name, ...argv], options);
  }

  /** `ip <args>` within the namespace. */
  ip(...args: string[]): Promise<CommandOutput> {
    return command(['ip', '-n', this.name, ...args]);
  }

  /** Writes kernel settings, each `name=value`. */
  async sysctl(...settings: string[]): Promise<void> {
    await this.run(['sysctl', '-q', '-w', ...settings]);
  }

  /** A switch: no spanning tree (ports forward at once), no multicast snooping (nobody here answers its queries). */
  async addBridge(name: string, options: { readonly addresses?: readonly string[] } = {}): Promise<void> {
    await this.ip('link', 'add', fit(name), 'type', 'bridge', 'stp_state', '0', 'mcast_snooping', '0');
    await this.addAddresses(name, options.addresses ?? []);
    await this.setUp(name);
  }

  /** A tap for a virtual machine, plugged into `bridge`; QEMU opens it from within the namespace. */
  async addTap(name: string, bridge: string): Promise<void> {
    await this.ip('tuntap', 'add', 'dev', fit(name), 'mode', 'tap');
    await this.ip('link', 'set', name, 'master', bridge, 'up');
  }

  /** Takes an interface away; a missing one is fine. */
  async removeInterface(name: string): Promise<void> {
    await this.ip('link', 'del', name).catch(unless(/Cannot find device|Cannot open network namespace/));
  }

  async addAddresses(name: string, addresses: readonly string[]): Promise<void> {
    for (const address of addresses) {
      const v6 = address.includes(':');
      await this.ip('addr', 'add', address, 'dev', name, ...(v6 ? ['nodad'] : ['brd', '+']));
    }
  }

  /** `to` is a prefix (`10.77.0.0/16`, `fd00::/48`), or `default` with the family taken from `via`. */
  async addRoute(to: string, via: string): Promise<void> {
    await this.ip(via.includes(':') ? '-6' : '-4', 'route', 'replace', to, 'via', via);
  }

  async setUp(name: string): Promise<void> {
    await this.ip('link', 'set', name, 'up');
  }

  async setDown(name: string): Promise<void> {
    await this.ip('link', 'set', name, 'down');
  }

  /** Processes in the namespace; none when it does not exist. */
  async pids(): Promise<number[]> {
    const said = await command(['ip', 'netns', 'pids', this.name]).catch(unless(GONE));
    return (said?.stdout ?? '').split('\n').filter(Boolean).map(Number);
  }

  async exists(): Promise<boolean> {
    return (await listNamespaces(this.name)).includes(this.name);
  }

  /** Ends what runs in the namespace (SIGKILL, by pid) and removes it with all its interfaces. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    // A killed process may have started another in the meantime: look again, but not for ever.
    for (let round = 0; round < 5; round++) {
      const pids = await this.pids();
      if (pids.length === 0) break;
      for (const pid of pids) signalProcess(pid, 'SIGKILL');
    }
    await command(['ip', 'netns', 'del', this.name]).catch(unless(GONE));
  }
}

const GONE = /No such file or directory|does not exist|Cannot open network namespace|Invalid argument/;

/** Makes a namespace with `lo` up. Its name should start with `bm-`, so that leftovers are found again. */
export async function createNamespace(name: string): Promise<Namespace> {
  const namespace = new Namespace(name);
  await command(['ip', 'netns', 'add', name]);
  try {
    await namespace.setUp('lo');
    await namespace.sysctl(...SYSCTLS);
    return namespace;
  } catch (error) {
    await namespace[Symbol.asyncDispose]();
    throw error;
  }
}

/** Lays a cable between two ends, gives them their addresses and brings them up. */
export async function connect(a: LinkEnd, b: LinkEnd): Promise<void> {
  const side = (end: LinkEnd) => [fit(end.interface), ...(end.mac ? ['address', end.mac] : [])];
  await a.namespace.ip(
    ...['link', 'add', ...side(a), 'type', 'veth', 'peer', 'name', ...side(b), 'netns', b.namespace.name],
  );
  for (const end of [a, b]) {
    if (end.bridge !== undefined) await end.namespace.ip('link', 'set', end.interface, 'master', end.bridge);
    await end.namespace.addAddresses(end.interface, end.addresses ?? []);
    await end.namespace.setUp(end.interface);
  }
}

/** Names of the existing namespaces that start with `prefix`. */
export async function listNamespaces(prefix: string): Promise<string[]> {
  const names = await readdir(NETNS_DIRECTORY).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  return names.filter((name) => name.startsWith(prefix));
}

function fit(name: string): string {
  if (name.length > MAX_INTERFACE_NAME || !/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) {
    throw new TypeError(`'${name}' cannot name an interface: 1 to ${MAX_INTERFACE_NAME} of A-Z a-z 0-9 . _ -`);
  }
  return name;
}

/** For `catch`: swallows the failures whose message matches, rethrows all others. */
function unless(expected: RegExp): (error: unknown) => undefined {
  return (error) => {
    if (error instanceof CommandFailed && expected.test(error.stderr)) return undefined;
    throw error;
  };
}
