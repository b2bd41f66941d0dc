import { networkInterfaces } from 'node:os';

/** A network interface as boot needs it. */
export interface SegmentInterface {
  readonly name: string;
  readonly mac: string;
  /** Its first IPv4 address; a segment may have IPv6 only. */
  readonly ipv4?: { readonly address: string; readonly netmask: string };
  /** IPv6 addresses without a zone, global ones first. */
  readonly ipv6: readonly string[];
}

/** The interface as it is now, or undefined when it does not exist or has no address yet. */
export function readInterface(name: string): SegmentInterface | undefined {
  const entries = networkInterfaces()[name] ?? [];
  const first = entries[0];
  if (first === undefined) return undefined;
  const ipv4 = entries.find(({ family }) => family === 'IPv4');
  const ipv6 = entries.filter(({ family }) => family === 'IPv6').map(({ address }) => address.split('%')[0] ?? address);
  return {
    name,
    mac: first.mac,
    ...(ipv4 === undefined ? {} : { ipv4: { address: ipv4.address, netmask: ipv4.netmask } }),
    ipv6: [...ipv6.filter((address) => !isLinkLocal(address)), ...ipv6.filter(isLinkLocal)],
  };
}

/** Addresses of the interface, best first: what neighbours and booting machines are told. */
export function interfaceAddresses({ ipv4, ipv6 }: SegmentInterface): string[] {
  return ipv4 === undefined ? [...ipv6] : [ipv4.address, ...ipv6];
}

export function isLinkLocal(address: string): boolean {
  return /^fe[89ab]/i.test(address);
}
