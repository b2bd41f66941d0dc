import type { DhcpClient } from './client.ts';
import { messageType, option, write } from './option.ts';
import type { DhcpPacket } from './packet.ts';

/** What a boot client is sent to: a URL for iPXE and HTTP firmware, a name on this node's TFTP server for the others. */
export type BootFile = { readonly url: string } | { readonly name: string };

/** What a client with an address of ours is told about its network. */
export interface LeaseGrant {
  readonly address: string;
  readonly seconds: number;
  readonly netmask: string;
  readonly broadcast: string;
  readonly router?: string | undefined;
  readonly dns: readonly string[];
}

export interface ReplyFacts {
  readonly type: typeof messageType.offer | typeof messageType.ack;
  /** This node's address on the segment. */
  readonly server: string;
  /** This node's place in the client's ranking, 0 to 9: iPXE takes the lowest of several. */
  readonly rank: number;
  /** Absent for ordinary clients. */
  readonly boot?: BootFile | undefined;
  /** Absent in ProxyDHCP: the address comes from elsewhere. */
  readonly lease?: LeaseGrant | undefined;
}

/** Go to the boot file of this message by TFTP, no boot server discovery; then the menu prompt picky ROMs want. */
const BIOS_PXE_OPTIONS = Uint8Array.of(6, 1, 8, 10, 4, 0, ...Buffer.from('PXE'), 255);

/** The reply to a DISCOVER, REQUEST or INFORM. */
export function buildReply(request: DhcpPacket, client: DhcpClient, facts: ReplyFacts): DhcpPacket {
  const { boot, lease, server } = facts;
  const options = new Map<number, Uint8Array>([
    [option.messageType, write.byte(facts.type)],
    [option.serverIdentifier, write.addresses(server)],
  ]);
  if (lease !== undefined) addLease(options, lease);
  if (boot !== undefined) addBoot(options, client, boot, facts);
  const path = boot === undefined ? '' : 'url' in boot ? boot.url : boot.name;
  return {
    ...answerTo(request),
    ciaddr: facts.type === messageType.ack ? request.ciaddr : '0.0.0.0',
    yiaddr: lease?.address ?? '0.0.0.0',
    // iPXE takes a filename for real only when siaddr is set; EDK2 fetches from it.
    siaddr: boot === undefined ? '0.0.0.0' : server,
    sname: boot === undefined ? '' : server,
    // Longer URLs are in option 67 alone.
    file: path.length < 128 ? path : '',
    options,
  };
}

/** The refusal of an address (RFC 2131 section 4.3.2): the client starts over. */
export function buildNak(request: DhcpPacket, server: string, reason: string): DhcpPacket {
  return {
    ...answerTo(request),
    ciaddr: '0.0.0.0',
    yiaddr: '0.0.0.0',
    siaddr: '0.0.0.0',
    sname: '',
    file: '',
    options: new Map<number, Uint8Array>([
      [option.messageType, write.byte(messageType.nak)],
      [option.serverIdentifier, write.addresses(server)],
      [option.message, write.text(reason)],
    ]),
  };
}

/** What every reply takes from its request (RFC 2131 table 3). A client without an address hears broadcasts only. */
function answerTo({ htype, xid, giaddr, chaddr }: DhcpPacket) {
  return { op: 2, htype, hops: 0, xid, secs: 0, broadcast: true, giaddr, chaddr } as const;
}

function addLease(options: Map<number, Uint8Array>, lease: LeaseGrant): void {
  // An INFORM is told about the network, and gets no lease (RFC 2131 section 4.3.5).
  if (lease.address !== '0.0.0.0') {
    options.set(option.leaseSeconds, write.seconds(lease.seconds));
    options.set(option.renewalSeconds, write.seconds(Math.floor(lease.seconds / 2)));
    options.set(option.rebindingSeconds, write.seconds(Math.floor((lease.seconds * 7) / 8)));
  }
  options.set(option.subnetMask, write.addresses(lease.netmask));
  options.set(option.broadcastAddress, write.addresses(lease.broadcast));
  if (lease.router !== undefined) options.set(option.router, write.addresses(lease.router));
  if (lease.dns.length > 0) options.set(option.dns, write.addresses(...lease.dns));
}

function addBoot(options: Map<number, Uint8Array>, client: DhcpClient, boot: BootFile, facts: ReplyFacts): void {
  const path = 'url' in boot ? boot.url : boot.name;
  options.set(option.bootFile, write.textNul(path));
  if (client.uuid !== undefined) options.set(option.clientUuid, client.uuid);
  if (client.kind === 'ipxe') {
    options.set(option.ipxe, ipxeOptions(facts));
    // What marks a reply as a proxy's; with it on a full offer iPXE would ask port 4011 as well.
    if (facts.lease === undefined) options.set(option.vendorClass, write.text('PXEClient'));
    return;
  }
  options.set(option.vendorClass, write.text(client.kind === 'http' ? 'HTTPClient' : 'PXEClient'));
  if (client.kind !== 'pxe') return;
  options.set(option.serverName, write.text(facts.server));
  // UEFI firmware must not see option 43: with it, EDK2 keeps the first proxy offer only and never fails over.
  if (client.architecture?.firmware === 'bios') options.set(option.vendorOptions, BIOS_PXE_OPTIONS);
}

/** iPXE's own options: 1 is the priority of this offer, 176 that no proxy need be waited for. */
function ipxeOptions({ rank, lease }: ReplyFacts): Uint8Array {
  const priority = [1, 1, Math.max(1, 10 - rank)];
  return Uint8Array.from(lease === undefined ? priority : [...priority, 176, 1, 1]);
}
