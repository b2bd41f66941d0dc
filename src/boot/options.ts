import { isIPv4 } from 'node:net';
import { addressNumber } from '../dhcp/ipv4.ts';

/** off: content only. auto: DHCP server where there is none, else ProxyDHCP. server, proxy: only that. */
export type BootMode = 'off' | 'auto' | 'server' | 'proxy';

export interface AddressPool {
  /** First and last IPv4 address that may be given out, both included, within the interface's own subnet. */
  readonly from: string;
  readonly to: string;
}

/** How a node boots its segment's bare machines. */
export interface BootOptions {
  readonly mode: BootMode;
  /** The segment's network interface, for example `eth0`. Required unless the mode is off. */
  readonly interface?: string | undefined;
  /** Addresses for clients; required for mode server. Without one, auto never becomes a DHCP server. */
  readonly pool?: AddressPool | undefined;
  /** Default gateway told to clients (option 3). @default none */
  readonly router?: string | undefined;
  /** Name servers told to clients (option 6), at most 4. @default none */
  readonly dns?: readonly string[] | undefined;
  /** The channel whose release bare machines boot. */
  readonly channel: string;
  /** Port of this node's gateway on the segment. @default 8080 */
  readonly gatewayPort?: number | undefined;
  /** Directory with `undionly.kpxe`. @default Debian's /usr/lib/ipxe */
  readonly ipxe?: string | undefined;
  /** Lease time in seconds, 120 to 2592000. @default 3600 */
  readonly leaseSeconds?: number | undefined;
  /** Above this many boots in progress a node leaves new clients to its neighbours. @default 64 */
  readonly maxLoad?: number | undefined;
  /** How long mode auto looks for another DHCP server before it becomes one, in ms. @default 4500 */
  readonly discoveryMs?: number | undefined;
}

/** Options with every default in place, for one interface. */
export interface CheckedBootOptions {
  readonly mode: BootMode;
  readonly interface: string;
  readonly pool: AddressPool | undefined;
  readonly router: string | undefined;
  readonly dns: readonly string[];
  readonly channel: string;
  readonly gatewayPort: number;
  readonly ipxe: string | undefined;
  readonly leaseSeconds: number;
  readonly maxLoad: number;
  readonly discoveryMs: number;
}

export const bootDefaults = { gatewayPort: 8080, leaseSeconds: 3600, maxLoad: 64, discoveryMs: 4500 } as const;

/** The largest pool: what one node keeps in memory and on disk as leases. */
export const MAX_POOL_ADDRESSES = 65_536;

/** Boot options that contradict each other; `option` names the one to change. */
export class BootOptionsError extends Error {
  override readonly name = 'BootOptionsError';
  readonly code = 'BOOT_OPTIONS';
  readonly option: keyof BootOptions;
  constructor(option: keyof BootOptions, message: string) {
    super(`boot.${option}: ${message}`);
    this.option = option;
  }
}

/** @throws BootOptionsError for the first contradiction. */
export function checkBootOptions(options: BootOptions): CheckedBootOptions {
  const { mode, pool } = options;
  const refuse = (option: keyof BootOptions, message: string): never => {
    throw new BootOptionsError(option, message);
  };
  if (mode !== 'off' && !options.interface) {
    refuse('interface', `is missing; mode ${mode} needs the interface of the segment, for example eth0`);
  }
  if (mode === 'server' && pool === undefined) {
    refuse('pool', 'is missing; a DHCP server needs {from, to}. Without a pool use mode proxy');
  }
  if (pool !== undefined) checkPool(pool, refuse);
  if (options.router !== undefined && !isIPv4(options.router)) {
    refuse('router', `'${options.router}' is no IPv4 address`);
  }
  const dns = options.dns ?? [];
  if (dns.length > 4 || !dns.every((address) => isIPv4(address))) refuse('dns', 'takes at most 4 IPv4 addresses');
  if (!/^[a-z0-9][a-z0-9._-]{0,62}$/i.test(options.channel)) {
    refuse('channel', `'${options.channel}' is no channel name`);
  }
  const between = (option: 'gatewayPort' | 'leaseSeconds' | 'maxLoad' | 'discoveryMs', low: number, high: number) => {
    const value = options[option] ?? bootDefaults[option];
    if (!Number.isInteger(value) || value < low || value > high) {
      refuse(option, `is ${value}, and must be a whole number from ${low} to ${high}`);
    }
    return value;
  };
  return {
    mode,
    pool,
    dns,
    interface: options.interface ?? '',
    router: options.router,
    channel: options.channel,
    ipxe: options.ipxe,
    gatewayPort: between('gatewayPort', 1, 65_535),
    leaseSeconds: between('leaseSeconds', 120, 2_592_000),
    maxLoad: between('maxLoad', 1, 10_000),
    discoveryMs: between('discoveryMs', 100, 60_000),
  };
}

function checkPool(pool: AddressPool, refuse: (option: 'pool', message: string) => never): void {
  for (const address of [pool.from, pool.to]) {
    if (!isIPv4(address)) refuse('pool', `'${address}' is no IPv4 address`);
  }
  const size = addressNumber(pool.to) - addressNumber(pool.from) + 1;
  if (size < 1) refuse('pool', `ends (${pool.to}) before it begins (${pool.from})`);
  if (size > MAX_POOL_ADDRESSES) refuse('pool', `has ${size} addresses, at most ${MAX_POOL_ADDRESSES} can be served`);
}
