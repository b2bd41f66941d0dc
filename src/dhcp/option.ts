import { addressBytes, addressText } from './ipv4.ts';
import type { DhcpPacket } from './packet.ts';

/** DHCP options by name: RFC 2132, 3004 (77), 4578 (93, 94, 97), and 175, iPXE's own. */
export const option = {
  subnetMask: 1,
  router: 3,
  dns: 6,
  broadcastAddress: 28,
  vendorOptions: 43,
  requestedAddress: 50,
  leaseSeconds: 51,
  messageType: 53,
  serverIdentifier: 54,
  parameterList: 55,
  message: 56,
  renewalSeconds: 58,
  rebindingSeconds: 59,
  vendorClass: 60,
  clientIdentifier: 61,
  serverName: 66,
  bootFile: 67,
  userClass: 77,
  architecture: 93,
  clientUuid: 97,
  ipxe: 175,
} as const;

/** Values of option 53 (RFC 2132 section 9.6). */
export const messageType = {
  discover: 1,
  offer: 2,
  request: 3,
  decline: 4,
  ack: 5,
  nak: 6,
  release: 7,
  inform: 8,
} as const;

/** The message type, or undefined for BOOTP and nonsense. */
export function readType(packet: DhcpPacket): number | undefined {
  const value = packet.options.get(option.messageType);
  return value?.length === 1 ? value[0] : undefined;
}

/** One address, or undefined when the option is absent or no address. */
export function readAddress(packet: DhcpPacket, code: number): string | undefined {
  const value = packet.options.get(code);
  if (value?.length !== 4) return undefined;
  return addressText(new DataView(value.buffer, value.byteOffset, 4).getUint32(0));
}

/** Text without the NULs that some firmware closes it with. */
export function readText(packet: DhcpPacket, code: number): string {
  return Buffer.from(packet.options.get(code) ?? [])
    .toString('latin1')
    .replace(/\0+$/, '');
}

/** The list of 16 bit architecture codes of option 93, at most 16 of them. */
export function readArchitectures(packet: DhcpPacket): number[] {
  const value = packet.options.get(option.architecture) ?? new Uint8Array();
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const count = Math.min(16, Math.floor(value.length / 2));
  return Array.from({ length: count }, (_, index) => view.getUint16(2 * index));
}

/**
 * True when one of the user classes is `name`. RFC 3004 wants each preceded by its length; iPXE and others send the
 * bare word.
 */
export function hasUserClass(packet: DhcpPacket, name: string): boolean {
  const value = Buffer.from(packet.options.get(option.userClass) ?? []);
  if (value.toString('latin1') === name) return true;
  for (let at = 0; at < value.length; at += 1 + (value[at] ?? 0)) {
    const size = value[at] ?? 0;
    if (value.subarray(at + 1, at + 1 + size).toString('latin1') === name) return true;
    if (size === 0) return false;
  }
  return false;
}

/** The feature bytes inside option 175, which is a list of options itself (iPXE's DHCP_EB_FEATURE_*). */
export function readIpxeFeatures(packet: DhcpPacket): ReadonlySet<number> {
  const value = packet.options.get(option.ipxe) ?? new Uint8Array();
  const features = new Set<number>();
  for (let at = 0; at + 1 < value.length; at += 2 + (value[at + 1] ?? 0)) {
    features.add(value[at] ?? 0);
  }
  return features;
}

/** Values for the options of a reply. */
export const write = {
  byte: (value: number) => Uint8Array.of(value),
  seconds: (value: number) => Uint8Array.of(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255),
  addresses: (...addresses: readonly string[]) => Buffer.concat(addresses.map(addressBytes)),
  text: (value: string) => Buffer.from(value, 'latin1'),
  /** With the closing NUL that some firmware needs and none minds. */
  textNul: (value: string) => Buffer.from(`${value}\0`, 'latin1'),
};
