import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CommandFailed, command } from '../host/command.ts';
import type { Log } from '../observe/log.ts';
import { type InterfaceDump, parseDump } from './dump.ts';
import type { SecretKey } from './network.ts';

export interface InterfaceOptions {
  /** At most 15 of a-z, 0-9, dots and dashes. */
  readonly name: string;
  /** auto: the kernel's WireGuard where it has one, else wireguard-go. @default 'auto' */
  readonly driver?: 'auto' | 'kernel' | 'userspace';
  /** UDP. */
  readonly port: number;
  /** The private key, or a file with it, mode 0600, as `wg genkey` writes it: it is on no command line. */
  readonly key: string | SecretKey;
  /** Of that key, base64: by it an interface that an earlier agent left behind is known as ours. */
  readonly publicKey: string;
  /** This node's, with prefix lengths. */
  readonly addresses: readonly string[];
  /** Packets to these blocks go to the interface; its peers' allowed addresses decide where they go from there. */
  readonly routes: readonly string[];
  /** Bytes. @default 1420: WireGuard's headers over IPv6 in frames of 1500 */
  readonly mtu?: number;
}

/** What a peer of the interface is to be. Fields that are absent stay as they are. */
export interface PeerSetting {
  readonly publicKey: string;
  readonly allowedIps?: readonly string[];
  readonly endpoint?: string;
  /** Seconds; 0 for none. */
  readonly keepalive?: number;
  readonly presharedKey?: SecretKey;
}

/** There is no WireGuard interface to be had; the message says what is missing and what to do. */
export class OverlayUnavailable extends Error {
  readonly code = 'OVERLAY_UNAVAILABLE';
}

const MAX_NAME = 15;
const READY_MS = 5_000;
const LOOK_MS = 20;
const COMMAND_MS = 10_000;
/** The routing table of what goes through WireGuard, and the place of its rule: before the machine's own (32766). */
const TABLE = '4003';
const PRIORITY = '4003';
/** Peers that one call of `wg` sets. */
const BATCH = 64;

/**
 * A WireGuard interface of this machine, made by us and taken away when it is disposed of. Peers are set and removed one
 * by one: what is not named keeps its session.
 */
export class WireguardInterface implements AsyncDisposable {
  readonly name: string;
  readonly driver: 'kernel' | 'userspace';
  readonly #process: ChildProcess | undefined;
  readonly #gone: Promise<unknown>;

  private constructor(name: string, { driver, child }: Made) {
    this.name = name;
    this.driver = driver;
    this.#process = child;
    this.#gone = new Promise((resolve) => child?.once('exit', resolve));
  }

  /** Rejects with `OverlayUnavailable`, or with `CommandFailed` when `ip` or `wg` refuses. */
  static async open(options: InterfaceOptions, { log }: { readonly log: Log }): Promise<WireguardInterface> {
    const { name, port, key, publicKey, addresses, routes, mtu = 1420 } = options;
    if (!/^[a-z0-9][a-z0-9.-]*$/i.test(name) || name.length > MAX_NAME) {
      throw new OverlayUnavailable(`${JSON.stringify(name)} cannot name an interface: at most ${MAX_NAME} of a-z, 0-9`);
    }
    await removeOurs(name, publicKey);
    const made = new WireguardInterface(name, await make(name, options.driver ?? 'auto'));
    try {
      await wg('set', name, 'listen-port', String(port));
      await setKey(['set', name, 'private-key'], key);
      for (const address of addresses) await ip('address', 'replace', address, 'dev', name, 'nodad');
      await ip('link', 'set', 'dev', name, 'mtu', String(mtu), 'up');
      for (const route of routes) await lead(route, name);
    } catch (error) {
      await made[Symbol.asyncDispose]();
      throw error;
    }
    log.info('overlay interface is up', { interface: name, driver: made.driver, addresses, port, mtu });
    return made;
  }

  /** Resolves when the interface is lost without our doing; never for one of the kernel. */
  get gone(): Promise<unknown> {
    return this.#gone;
  }

  async show(): Promise<InterfaceDump> {
    const dump = await wg('show', this.name, 'dump').catch((error: unknown) => {
      // What it printed until then has the private key in it, and an error may be logged.
      if (!(error instanceof CommandFailed)) throw error;
      throw new CommandFailed(error.argv, error.exitCode, { stdout: '', stderr: error.stderr });
    });
    return parseDump(dump.stdout);
  }

  /** Packets that come out of the interface may go back into it, to another peer: what a gateway is for. */
  async forward(): Promise<void> {
    await allowForwarding(this.name);
  }

  /** Adds or changes these, and no other. */
  async set(peers: readonly PeerSetting[]): Promise<void> {
    for (let at = 0; at < peers.length; at += BATCH) {
      await wg('set', this.name, ...peers.slice(at, at + BATCH).flatMap(settingOf));
    }
    for (const { publicKey, presharedKey } of peers) {
      if (presharedKey) await setKey(['set', this.name, 'peer', publicKey, 'preshared-key'], presharedKey);
    }
  }

  async remove(publicKeys: readonly string[]): Promise<void> {
    for (let at = 0; at < publicKeys.length; at += BATCH) {
      const batch = publicKeys.slice(at, at + BATCH);
      await wg('set', this.name, ...batch.flatMap((key) => ['peer', key, 'remove']));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process !== undefined) await end(this.#process);
    await ip('link', 'delete', 'dev', this.name).catch(() => undefined);
  }
}

function settingOf({ publicKey, allowedIps, endpoint, keepalive }: PeerSetting): string[] {
  return [
    ...['peer', publicKey],
    ...(allowedIps === undefined ? [] : ['allowed-ips', allowedIps.join(',')]),
    ...(endpoint === undefined ? [] : ['endpoint', endpoint]),
    ...(keepalive === undefined ? [] : ['persistent-keepalive', keepalive === 0 ? 'off' : String(keepalive)]),
  ];
}

/** Secrets go to wg(8) in a file. Its standard input would not do: what Node gives a child is a socket, which cannot be opened by name. */
async function setKey(args: readonly string[], key: string | SecretKey): Promise<void> {
  if (typeof key === 'string') return void (await wg(...args, key));
  const folder = await mkdtemp(join(tmpdir(), 'bm-key-'));
  try {
    const file = join(folder, 'key');
    await writeFile(file, `${key.reveal().toString('base64')}\n`, { mode: 0o600 });
    await wg(...args, file);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * From now on what is meant for the block goes into the interface or nowhere, also while that is away or its agent has
 * died: by a rule of its own, before the routes of everybody else. Theirs may be more special, and a DHCP server hands out
 * any (RFC 3442); they would carry it in the clear.
 */
async function lead(block: string, name: string): Promise<void> {
  await ip(familyOf(block), 'route', 'replace', block, 'dev', name, 'table', TABLE);
  await ip(familyOf(block), 'route', 'replace', ...nowhere(block));
  await ip(familyOf(block), 'rule', 'delete', ...ruleOf(block)).catch(() => undefined);
  await ip(familyOf(block), 'rule', 'add', ...ruleOf(block));
}

/** What is meant for blocks that an interface had goes as everything else does, from now on. */
export async function openRoutes(blocks: readonly string[]): Promise<void> {
  for (const block of blocks) {
    await ip(familyOf(block), 'rule', 'delete', ...ruleOf(block)).catch(() => undefined);
    await ip(familyOf(block), 'route', 'delete', ...nowhere(block)).catch(() => undefined);
  }
}

/** The last of the table's routes to the block. */
function nowhere(block: string): string[] {
  return ['unreachable', block, 'metric', '2000000000', 'table', TABLE];
}

function ruleOf(block: string): string[] {
  return ['to', block, 'lookup', TABLE, 'priority', PRIORITY];
}

function familyOf(block: string): '-4' | '-6' {
  return block.includes(':') ? '-6' : '-4';
}

/** What an agent with our key left behind goes, its sessions are dead or soon will be; what is somebody else's stays. */
async function removeOurs(name: string, publicKey: string): Promise<void> {
  const found = await ip('link', 'show', 'dev', name).catch(() => undefined);
  if (found === undefined) return;
  const key = (await wg('show', name, 'public-key').catch(() => undefined))?.stdout.trim();
  // One without a key carries nothing: its agent ended between two commands.
  if (key !== publicKey && key !== '(none)') {
    const advice = 'give the overlay another name (`overlay.interface`), or take that interface away';
    throw new OverlayUnavailable(`there is an interface ${name} already, and it is not the overlay's: ${advice}`);
  }
  await ip('link', 'delete', 'dev', name);
}

interface Made {
  readonly driver: 'kernel' | 'userspace';
  /** wireguard-go. */
  readonly child?: ChildProcess;
}

async function make(name: string, driver: 'auto' | 'kernel' | 'userspace'): Promise<Made> {
  if (driver !== 'userspace') {
    try {
      await ip('link', 'add', 'dev', name, 'type', 'wireguard');
      return { driver: 'kernel' };
    } catch (cause) {
      if (!(cause instanceof CommandFailed)) throw cause;
      if (/Operation not permitted/.test(cause.stderr)) throw noRights(cause);
      const advice = 'load the module, or let wireguard-go do it (`overlay.mode: auto`)';
      const message = `this kernel has no WireGuard (${cause.stderr.trim()}): ${advice}`;
      if (driver === 'kernel') throw new OverlayUnavailable(message, { cause });
    }
  }
  return { driver: 'userspace', child: await startWireguardGo(name) };
}

/** Runs until the interface has its control socket. It ends with us, however we end. */
async function startWireguardGo(name: string): Promise<ChildProcess> {
  const env = { ...process.env, LOG_LEVEL: 'error', WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD: '1' };
  const argv = ['--pdeathsig', 'TERM', 'wireguard-go', '--foreground', name];
  const child = spawn('setpriv', argv, { stdio: ['ignore', 'ignore', 'pipe'], env });
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-400);
  });
  const failed = new Promise<Error>((resolve) => {
    child.once('error', resolve);
    child.once('exit', (code) => resolve(new Error(`exit code ${code}: ${said.trim().split('\n').at(-1)}`)));
  });
  const ready = async () => {
    const signal = AbortSignal.timeout(READY_MS);
    while (!signal.aborted) {
      if (await wg('show', name, 'dump').catch(() => undefined)) return undefined;
      await delay(LOOK_MS);
    }
    return new Error('it did not begin in time');
  };
  const fault = await Promise.race([failed, ready()]);
  if (fault === undefined) return child;
  await end(child);
  const advice =
    'install Debian’s wireguard-go and wireguard-tools, and run the agent as root (or with CAP_NET_ADMIN and /dev/net/tun)';
  throw new OverlayUnavailable(
    `this kernel has no WireGuard, and wireguard-go does not run (${fault.message}): ${advice}`,
    {
      cause: fault,
    },
  );
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  const gone = await Promise.race([exit.then(() => true), delay(2_000, false, { ref: false })]);
  if (!gone) child.kill('SIGKILL');
}

const IPV6 = '/proc/sys/net/ipv6/conf';

/** For this interface alone, since Linux 6.17; before, there is one switch for all. */
async function allowForwarding(name: string): Promise<void> {
  try {
    await writeFile(`${IPV6}/${name}/force_forwarding`, '1');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    if ((await readFile(`${IPV6}/all/forwarding`, 'utf8')).trim() === '1') return;
    // A host that forwards takes no addresses from routers any more, unless it is told to (accept_ra 2).
    for (const each of await readdir(IPV6)) {
      const file = `${IPV6}/${each}/accept_ra`;
      if ((await readFile(file, 'utf8')).trim() === '1') await writeFile(file, '2');
    }
    await writeFile(`${IPV6}/all/forwarding`, '1');
  }
}

function noRights(cause: Error): OverlayUnavailable {
  return new OverlayUnavailable('interfaces may not be made: run the agent as root, or with CAP_NET_ADMIN', { cause });
}

async function wg(...args: readonly string[]) {
  return await command(['wg', ...args], { timeoutMs: COMMAND_MS, maxOutput: 16 * 1024 * 1024 });
}

async function ip(...args: readonly string[]) {
  return await command(['ip', ...args], { timeoutMs: COMMAND_MS });
}
