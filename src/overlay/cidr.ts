import { isIP, isIPv4 } from 'node:net';

export interface Cidr {
  readonly bits: 32 | 128;
  /** The first and the last address of the block, as numbers. */
  readonly first: bigint;
  readonly last: bigint;
  /** `10.0.0.7/24`: the address as given, in its shortest spelling (RFC 5952). */
  readonly address: string;
  /** `10.0.0.0/24`: the block, as `wg` shows it. */
  readonly block: string;
}

/** Undefined for what is no address with or without `/prefix`; one without is that address alone. */
export function parseCidr(text: string): Cidr | undefined {
  const [, host = '', digits] = /^([0-9a-f.:]{2,45})(?:\/(0|[1-9]\d{0,2}))?$/i.exec(text) ?? [];
  if (isIP(host) === 0) return undefined;
  const bits = isIPv4(host) ? 32 : 128;
  const prefix = Number(digits ?? bits);
  if (prefix > bits) return undefined;
  const number = numberOf(host);
  const hosts = (1n << BigInt(bits - prefix)) - 1n;
  const first = number & ~hosts;
  const spell = (address: bigint) => `${textOf(address, bits)}/${prefix}`;
  return { bits, first, last: first | hosts, address: spell(number), block: spell(first) };
}

/** The spelling of RFC 5952, in hexadecimal groups only. */
export function shortest(ipv6: string): string {
  return new URL(`http://[${ipv6}]`).hostname.slice(1, -1);
}

function numberOf(host: string): bigint {
  if (isIPv4(host)) return host.split('.').reduce((sum, octet) => (sum << 8n) | BigInt(octet), 0n);
  const [left = [], right = []] = shortest(host)
    .split('::')
    .map((side) => side.split(':').filter((group) => group !== ''));
  const groups = [...left, ...Array(8 - left.length - right.length).fill('0'), ...right];
  return groups.reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n);
}

function textOf(address: bigint, bits: 32 | 128): string {
  const width = bits === 32 ? 8 : 16;
  const parts = Array.from({ length: bits / width }, (_, at) =>
    BigInt.asUintN(width, address >> BigInt(bits - width * (at + 1))),
  );
  return bits === 32 ? parts.join('.') : shortest(parts.map((part) => part.toString(16)).join(':'));
}
