import { isIPv4 } from 'node:net';

/** `a.b.c.d` as an unsigned number. @throws TypeError when it is no IPv4 address */
export function addressNumber(address: string): number {
  if (!isIPv4(address)) throw new TypeError(`'${address}' is no IPv4 address`);
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}

/** The address of an unsigned 32 bit number. */
export function addressText(number: number): string {
  return `${number >>> 24}.${(number >>> 16) & 255}.${(number >>> 8) & 255}.${number & 255}`;
}

export function addressBytes(address: string): Uint8Array {
  const number = addressNumber(address);
  return Uint8Array.of(number >>> 24, (number >>> 16) & 255, (number >>> 8) & 255, number & 255);
}

/** True when both addresses lie in one subnet of `netmask`. */
export function sameSubnet(a: string, b: string, netmask: string): boolean {
  const mask = addressNumber(netmask);
  return ((addressNumber(a) & mask) ^ (addressNumber(b) & mask)) === 0;
}

/** The subnet's broadcast address. */
export function broadcastAddress(address: string, netmask: string): string {
  return addressText((addressNumber(address) | ~addressNumber(netmask)) >>> 0);
}
