import { type Architecture, bestArchitecture } from './architecture.ts';
import { hasUserClass, option, readArchitectures, readIpxeFeatures, readText } from './option.ts';
import type { DhcpPacket } from './packet.ts';

/**
 * What asks. plain: any host that wants an address. pxe: firmware that boots over TFTP. http: UEFI HTTP boot.
 * ipxe: iPXE that can fetch a script over HTTP. probe: a bootmesh node that looks for other servers.
 */
export type ClientKind = 'plain' | 'pxe' | 'http' | 'ipxe' | 'probe';

export interface DhcpClient {
  readonly kind: ClientKind;
  /** `52:54:00:12:34:56`, or the bare hexadecimal bytes of something that is not Ethernet. */
  readonly mac: string;
  /** What ranks the nodes for it: its UUID when it has a real one, else its hardware address. */
  readonly key: string;
  /** For boot clients. */
  readonly architecture?: Architecture;
  /** Option 97 as it came, to be echoed. */
  readonly uuid?: Uint8Array;
}

/** Vendor class of a bootmesh node's own search for DHCP servers: no bootmesh node answers it. */
export const PROBE_CLASS = 'bootmesh-probe';
/** User class of an iPXE build of the fleet's own. */
const OWN_USER_CLASS = 'bootmesh';
/** iPXE's feature bit for HTTP (DHCP_EB_FEATURE_HTTP). */
const FEATURE_HTTP = 0x13;

/** Who sent this message. Hostile input gives some kind of client, never an error. */
export function classify(packet: DhcpPacket): DhcpClient {
  const mac = hardwareText(packet.chaddr);
  const vendorClass = readText(packet, option.vendorClass);
  if (vendorClass === PROBE_CLASS) return { kind: 'probe', mac, key: mac };
  const architecture = bestArchitecture(readArchitectures(packet));
  const boots = /^(PXE|HTTP)Client/.exec(vendorClass)?.[1];
  // RFC 4578 demands 93 of every PXE client; what lacks it could not be given the right file.
  if (boots === undefined || architecture === undefined) return { kind: 'plain', mac, key: mac };
  const uuid = packet.options.get(option.clientUuid);
  return {
    kind: bootKind(packet, boots),
    mac,
    key: realUuid(uuid) ?? mac,
    architecture,
    ...(uuid?.length === 17 && uuid[0] === 0 ? { uuid } : {}),
  };
}

function bootKind(packet: DhcpPacket, boots: string): ClientKind {
  if (hasUserClass(packet, OWN_USER_CLASS)) return 'ipxe';
  // An iPXE that was built without HTTP is given undionly.kpxe like any firmware.
  if (hasUserClass(packet, 'iPXE') && readIpxeFeatures(packet).has(FEATURE_HTTP)) return 'ipxe';
  return boots === 'HTTP' ? 'http' : 'pxe';
}

/** QEMU without `-uuid` and many boards send all zeros or all ones, the same for every machine. */
function realUuid(uuid: Uint8Array | undefined): string | undefined {
  if (uuid?.length !== 17 || uuid[0] !== 0) return undefined;
  const bytes = uuid.subarray(1);
  if (bytes.every((byte) => byte === 0) || bytes.every((byte) => byte === 255)) return undefined;
  return Buffer.from(bytes).toString('hex');
}

export function hardwareText(chaddr: Uint8Array): string {
  const hex = Buffer.from(chaddr).toString('hex');
  return chaddr.length === 6 ? (hex.match(/../g) ?? []).join(':') : hex;
}
