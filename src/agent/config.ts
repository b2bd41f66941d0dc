import { readFile, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { rate, watermark, watermarkFault } from '../admin/setting.ts';
import { HOURS_FORM, isTimeZone, parseHours } from '../limits/hours.ts';

/** A configuration that cannot be used. The message lists every fault with its path in the file. */
export class ConfigError extends Error {
  readonly code = 'CONFIG';

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ConfigError';
  }
}

const MAX_FILE_BYTES = 1024 * 1024;
const name = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/i, 'is a word of letters, digits, dots and dashes');
const ipv4 = z.ipv4('is an IPv4 address, for example 192.0.2.10');
const hours = z.string().refine((text) => parseHours([text]) !== undefined, `is ${HOURS_FORM}`);
const listenAddress = z
  .string()
  .regex(/^(\[[0-9a-f:.%a-z]+\]|[0-9.]+):\d{1,5}$/i, 'is ADDRESS:PORT, for example 0.0.0.0:8080 or [::]:8080');

/** The agent's configuration file, documented in README.md ("Configuration"). Paths are relative to the file. */
const configSchema = z.strictObject({
  /** Keys, store, metadata and the control socket live here. */
  data: z.string().min(1).default('/var/lib/bootmesh'),
  /** Fleet description (sites, nodes, peer ids, trust root). Without one the node is a fleet of its own. */
  fleet: z.string().min(1).optional(),
  /** Directory of the fleet's own keys, on nodes that publish. <data>/fleet-keys when absent. */
  keys: z.string().min(1).optional(),
  /** This node's name in the fleet description; found by peer id when absent. */
  node: name.optional(),
  /** Channels to follow: their newest release is fetched, kept and served. */
  channels: z.array(name).max(32).default(['production']),
  swarm: z
    .strictObject({
      /** Multiaddrs to listen on. */
      listen: z.array(z.string()).max(16).default(['/ip4/0.0.0.0/tcp/4001', '/ip6/::/tcp/4001']),
      /** Announce and find nodes of the same segment by multicast DNS. */
      mdns: z.boolean().default(true),
      /** Faster ways for chunk bytes than the libp2p connection, which remains the fall-back. */
      lanes: z
        .strictObject({
          /** TLS 1.3 with the nodes of the same site. */
          tls: z.boolean().default(true),
          /** Plain TCP over WireGuard, on segments that the fleet description calls trusted, and in `trusted`. */
          plain: z.boolean().default(true),
          /** TCP port for both; 0: any that is free. */
          port: z.number().int().min(0).max(65535).default(4002),
          /** Networks in which everybody is trusted, in CIDR notation. */
          trusted: z
            .array(z.union([z.cidrv4(), z.cidrv6()], 'is a network in CIDR notation, for example 192.0.2.0/24'))
            .max(64)
            .default([]),
        })
        .prefault({}),
    })
    .prefault({}),
  /** Where machines that were invited knock, on a node that admits. */
  door: z
    .strictObject({
      /** Multiaddrs to listen on while somebody may come. */
      listen: z.array(z.string()).min(1).max(16).default(['/ip4/0.0.0.0/tcp/4003', '/ip6/::/tcp/4003']),
      /** Machines without a token may ask, and wait for `bootmesh fleet approve`: the door is always open then. */
      requests: z.boolean().default(false),
    })
    .prefault({}),
  /** The fleet's WireGuard network, for members by certificate. */
  overlay: z
    .strictObject({
      /** off; auto: the kernel's WireGuard, else wireguard-go; kernel or userspace: only that. */
      mode: z.enum(['off', 'auto', 'kernel', 'userspace']).default('off'),
      interface: z
        .string()
        .regex(/^[a-z0-9][a-z0-9.-]{0,14}$/i, 'is 1 to 15 of a-z, 0-9, dots and dashes')
        .default('bootmesh0'),
      /** UDP. @default 51820 with `endpoints`, else one of the node's own */
      port: z.int().min(1).max(65535).optional(),
      /** Bytes. IPv6 needs 1280. */
      mtu: z.int().min(1280).max(9000).default(1420),
      /** Seconds between packets to silent peers of other sites: 25 keeps the mappings of most NATs open. 0: none. */
      keepalive: z.int().min(0).max(65535).default(25),
      /** Where others reach this node besides its own addresses, such as a forwarded port: 198.51.100.7:51820. */
      endpoints: z
        .array(
          z.string().regex(/^(\[[0-9a-f:]+\]|[0-9.]+):\d{1,5}$/, 'is ADDRESS:PORT, for example 198.51.100.7:51820'),
        )
        .max(4)
        .default([]),
    })
    .prefault({}),
  gateway: z
    .strictObject({
      /** HTTP for local clients and booting machines; an empty list switches it off. */
      listen: z.array(listenAddress).max(16).default(['0.0.0.0:8080', '[::]:8080']),
    })
    .prefault({}),
  boot: z
    .strictObject({
      /** off; auto: be a DHCP server where there is none, else ProxyDHCP; server or proxy: only that. */
      mode: z.enum(['off', 'auto', 'server', 'proxy']).default('off'),
      /** The network interface of the segment, for example eth0. */
      interface: z.string().min(1).max(15).optional(),
      /** First and last address to give out as a DHCP server. */
      pool: z.strictObject({ from: ipv4, to: ipv4 }).optional(),
      router: ipv4.optional(),
      dns: z.array(ipv4).max(4).default([]),
      /** Channel that bare machines boot; the first followed one when absent. */
      channel: name.optional(),
      /** Directory with undionly.kpxe; Debian's /usr/lib/ipxe when absent. */
      ipxe: z.string().optional(),
    })
    .prefault({}),
  store: z
    .strictObject({
      /** Above this much on disk, chunks that nothing pins or uses are dropped: a size, or per cent of the file system… */
      high: watermark.optional(),
      /** … until this much is left. */
      low: watermark.optional(),
    })
    .prefault({}),
  /** What chunk bytes may take in any second, foreground and background together. Bytes per second when parsed. */
  rates: z
    .strictObject({
      /** This node, from all peers and to all peers. */
      down: rate.optional(),
      up: rate.optional(),
      /** All nodes of the site together, from and to peers outside of it. The same on each of them. */
      uplink: z.strictObject({ down: rate.optional(), up: rate.optional() }).prefault({}),
    })
    .prefault({}),
  /** Downloads that nobody waits for: those of followed channels. */
  background: z
    .strictObject({
      /** When they run; at any time when absent. A window or several. */
      hours: z.union([hours.transform((one) => [one]), z.array(hours).min(1).max(32)]).optional(),
      /** Zone of the hours, for example Europe/Berlin; the machine's when absent. */
      timezone: z.string().refine(isTimeZone, 'is the name of a time zone, for example Europe/Berlin').optional(),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
      file: z.string().optional(),
    })
    .prefault({}),
});

export type Config = z.output<typeof configSchema>;
/** What a file, the environment or flags may say: every part optional, deep. */
export type ConfigInput = z.input<typeof configSchema>;

/** `BOOTMESH_DATA`, `BOOTMESH_BOOT_MODE`, … : the variable of each setting that is one word or a comma-separated list. */
const environment: Record<string, readonly [section: keyof ConfigInput, key?: string | undefined, list?: 'list']> = {
  BOOTMESH_DATA: ['data'],
  BOOTMESH_FLEET: ['fleet'],
  BOOTMESH_KEYS: ['keys'],
  BOOTMESH_NODE: ['node'],
  BOOTMESH_CHANNELS: ['channels', undefined, 'list'],
  BOOTMESH_SWARM_LISTEN: ['swarm', 'listen', 'list'],
  BOOTMESH_DOOR_LISTEN: ['door', 'listen', 'list'],
  BOOTMESH_OVERLAY_MODE: ['overlay', 'mode'],
  BOOTMESH_OVERLAY_INTERFACE: ['overlay', 'interface'],
  BOOTMESH_OVERLAY_ENDPOINTS: ['overlay', 'endpoints', 'list'],
  BOOTMESH_GATEWAY_LISTEN: ['gateway', 'listen', 'list'],
  BOOTMESH_BOOT_MODE: ['boot', 'mode'],
  BOOTMESH_BOOT_INTERFACE: ['boot', 'interface'],
  BOOTMESH_STORE_HIGH: ['store', 'high'],
  BOOTMESH_STORE_LOW: ['store', 'low'],
  BOOTMESH_RATES_DOWN: ['rates', 'down'],
  BOOTMESH_RATES_UP: ['rates', 'up'],
  BOOTMESH_BACKGROUND_HOURS: ['background', 'hours', 'list'],
  BOOTMESH_LOG_LEVEL: ['log', 'level'],
  BOOTMESH_LOG_FILE: ['log', 'file'],
};

export interface ConfigSources {
  /** A YAML file; without one the defaults stand. */
  readonly file?: string | undefined;
  /** @default {} */
  readonly env?: NodeJS.ProcessEnv;
  /** What the command line says; wins over the rest. @default {} */
  readonly flags?: ConfigInput;
}

/**
 * The configuration: file, then environment, then flags, each over the one before.
 * @throws {ConfigError} with one line per fault: where it is, what is wrong, what would be right.
 */
export async function loadConfig(sources: ConfigSources = {}): Promise<Config> {
  const fromFile = sources.file === undefined ? {} : await readConfigFile(sources.file);
  const merged = merge(merge(fromFile, fromEnvironment(sources.env ?? {})), { ...sources.flags });
  const parsed = configSchema.safeParse(merged);
  const where = sources.file ?? 'configuration';
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `  ${issue.path.join('.') || '(top level)'}: ${issue.message}`);
    throw new ConfigError(`${where} cannot be used:\n${faults.join('\n')}`);
  }
  refuseContradictions(parsed.data, where);
  return parsed.data;
}

function refuseContradictions({ boot, store, channels }: Config, where: string): void {
  const faults: string[] = [];
  if (boot.mode !== 'off' && boot.interface === undefined) {
    faults.push(`boot.interface: is missing; boot.mode ${boot.mode} needs the interface of the segment, e.g. eth0`);
  }
  if (boot.mode === 'server' && boot.pool === undefined) {
    faults.push('boot.pool: is missing; a DHCP server needs {from, to}; without a pool use boot.mode proxy');
  }
  if (boot.channel !== undefined && !channels.includes(boot.channel)) {
    faults.push(`boot.channel: ${boot.channel} is not among the followed channels (${channels.join(', ')})`);
  }
  const contradiction = watermarkFault(store);
  if (contradiction !== undefined) faults.push(`store.low: ${contradiction}`);
  if (faults.length > 0) throw new ConfigError(`${where} cannot be used:\n  ${faults.join('\n  ')}`);
}

async function readConfigFile(file: string): Promise<Record<string, unknown>> {
  const text = await readBounded(file);
  const value = parseYaml(file, text);
  if (typeof value !== 'object' || Array.isArray(value))
    throw new ConfigError(`${file} must hold settings, key: value`);
  return relativeTo(dirname(resolve(file)), value as Record<string, unknown>);
}

function parseYaml(file: string, text: string): unknown {
  try {
    return parse(text, { maxAliasCount: 16 }) ?? {};
  } catch (error) {
    throw new ConfigError(`${file} is no YAML: ${(error as Error).message}`, { cause: error });
  }
}

async function readBounded(file: string): Promise<string> {
  try {
    if ((await stat(file)).size > MAX_FILE_BYTES) throw new ConfigError(`${file} is larger than 1 MiB`);
    return await readFile(file, 'utf8');
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`${file} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

function relativeTo(directory: string, value: Record<string, unknown>): Record<string, unknown> {
  const paths = ['data', 'fleet', 'keys'].filter((key) => typeof value[key] === 'string');
  return { ...value, ...Object.fromEntries(paths.map((key) => [key, resolve(directory, String(value[key]))])) };
}

function fromEnvironment(env: NodeJS.ProcessEnv): Record<string, unknown> {
  let settings: Record<string, unknown> = {};
  for (const [variable, [section, key, list]] of Object.entries(environment)) {
    const text = env[variable];
    if (text === undefined || text === '') continue;
    const value = list === 'list' ? text.split(',').map((item) => item.trim()) : text;
    settings = merge(settings, { [section]: key === undefined ? value : { [key]: value } });
  }
  return settings;
}

function merge(below: Record<string, unknown>, above: Record<string, unknown>): Record<string, unknown> {
  const merged = { ...below };
  for (const [key, value] of Object.entries(above)) {
    if (value === undefined) continue;
    const under = merged[key];
    merged[key] = isSection(under) && isSection(value) ? merge(under, value) : value;
  }
  return merged;
}

function isSection(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
