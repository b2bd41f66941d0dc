import { addressNumber, addressText } from './ipv4.ts';

/** A message that is no DHCP message. `code` says what a log should count; nothing else is ever thrown for input. */
export class DhcpError extends Error {
  override readonly name = 'DhcpError';
  readonly code: 'DHCP_SIZE' | 'DHCP_HEADER' | 'DHCP_OPTION' | 'DHCP_TOO_LONG';
  constructor(code: DhcpError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

/** A BOOTP message with DHCP options (RFC 2131 section 2). Addresses are dotted text, `0.0.0.0` when unset. */
export interface DhcpPacket {
  /** 1 from a client, 2 from a server. */
  readonly op: 1 | 2;
  /** Hardware type, 1 for Ethernet. */
  readonly htype: number;
  readonly hops: number;
  readonly xid: number;
  readonly secs: number;
  /** The client cannot take unicast before it has an address (top bit of the flags; the others must be zero). */
  readonly broadcast: boolean;
  readonly ciaddr: string;
  readonly yiaddr: string;
  readonly siaddr: string;
  readonly giaddr: string;
  /** Hardware address, 0 to 16 bytes. */
  readonly chaddr: Uint8Array;
  /** Server name and boot file of the fixed header, latin1; empty when options were carried there (option 52). */
  readonly sname: string;
  readonly file: string;
  /** By code, in the order they came; pieces of a long option are joined (RFC 3396). */
  readonly options: ReadonlyMap<number, Uint8Array>;
}

const COOKIE = 0x63825363;
const SNAME = { at: 44, size: 64 } as const;
const FILE = { at: 108, size: 128 } as const;
const OPTIONS_AT = 240;
const PAD = 0;
const OVERLOAD = 52;
const END = 255;
/** Larger than any interface's MTU that firmware boots over, and small enough to copy. */
const MAX_INPUT_BYTES = 9000;
/** BOOTP's 300 bytes (RFC 1542 section 2.1): some firmware drops shorter replies. */
const MIN_OUTPUT_BYTES = 300;
/** EDK2 drops packets above this. */
const MAX_OUTPUT_BYTES = 1472;

/** @throws DhcpError */
export function decodeDhcp(input: Uint8Array): DhcpPacket {
  // A plain array over the same memory: `slice` of a Buffer would be a view, and keep a whole receive slab alive.
  const bytes = new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
  if (bytes.length < OPTIONS_AT || bytes.length > MAX_INPUT_BYTES) {
    throw new DhcpError(
      'DHCP_SIZE',
      `a DHCP message has ${OPTIONS_AT} to ${MAX_INPUT_BYTES} bytes, not ${bytes.length}`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const op = view.getUint8(0);
  if (op !== 1 && op !== 2) throw new DhcpError('DHCP_HEADER', `the operation is ${op}, neither request nor reply`);
  if (view.getUint32(236) !== COOKIE) throw new DhcpError('DHCP_HEADER', 'the magic cookie is missing');
  const hlen = view.getUint8(2);
  if (hlen > 16) throw new DhcpError('DHCP_HEADER', `a hardware address has at most 16 bytes, not ${hlen}`);
  const options = new Map<number, Uint8Array>();
  readOptions(bytes.subarray(OPTIONS_AT), options);
  const overload = options.get(OVERLOAD)?.[0] ?? 0;
  const file = bytes.subarray(FILE.at, FILE.at + FILE.size);
  const sname = bytes.subarray(SNAME.at, SNAME.at + SNAME.size);
  // RFC 2131 section 4.1: the options field first, then file, then sname.
  if (overload & 1) readOptions(file, options);
  if (overload & 2) readOptions(sname, options);
  return {
    op,
    htype: view.getUint8(1),
    hops: view.getUint8(3),
    xid: view.getUint32(4),
    secs: view.getUint16(8),
    broadcast: (view.getUint16(10) & 0x8000) !== 0,
    ciaddr: addressText(view.getUint32(12)),
    yiaddr: addressText(view.getUint32(16)),
    siaddr: addressText(view.getUint32(20)),
    giaddr: addressText(view.getUint32(24)),
    chaddr: bytes.subarray(28, 28 + hlen),
    sname: overload & 2 ? '' : text(sname),
    file: overload & 1 ? '' : text(file),
    options,
  };
}

/** A missing END is tolerated, as real servers and dnsmasq do; an option that runs past its field is not. */
function readOptions(field: Uint8Array, into: Map<number, Uint8Array>): void {
  let at = 0;
  while (at < field.length) {
    const code = field[at] ?? END;
    if (code === END) return;
    at += 1;
    if (code === PAD) continue;
    const size = field[at] ?? 256;
    const value = field.subarray(at + 1, at + 1 + size);
    if (value.length !== size) throw new DhcpError('DHCP_OPTION', `option ${code} runs past the end of its field`);
    const before = into.get(code);
    into.set(code, before === undefined ? value : joined(before, value));
    at += 1 + size;
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** Up to the first NUL. */
function text(field: Uint8Array): string {
  const end = field.indexOf(0);
  return Buffer.from(end === -1 ? field : field.subarray(0, end)).toString('latin1');
}

/**
 * Padded to 300 bytes; the options in the map's order, those above 255 bytes in pieces, nothing in sname and file but
 * themselves (option 52 confuses firmware).
 * @throws DhcpError when it would not fit what clients accept.
 */
export function encodeDhcp(packet: DhcpPacket): Uint8Array {
  const options: number[] = [];
  for (const [code, value] of packet.options) {
    if (code === PAD || code === END || code === OVERLOAD) {
      throw new DhcpError('DHCP_OPTION', `option ${code} is not for callers to set`);
    }
    for (let at = 0; at === 0 || at < value.length; at += 255) {
      const piece = value.subarray(at, at + 255);
      options.push(code, piece.length, ...piece);
    }
  }
  const size = OPTIONS_AT + options.length + 1;
  if (size > MAX_OUTPUT_BYTES || packet.chaddr.length > 16) {
    throw new DhcpError('DHCP_TOO_LONG', `the reply comes to ${size} bytes, clients take ${MAX_OUTPUT_BYTES}`);
  }
  const bytes = new Uint8Array(Math.max(size, MIN_OUTPUT_BYTES));
  const view = new DataView(bytes.buffer);
  bytes.set([packet.op, packet.htype, packet.chaddr.length, packet.hops]);
  view.setUint32(4, packet.xid);
  view.setUint16(8, packet.secs);
  view.setUint16(10, packet.broadcast ? 0x8000 : 0);
  const addresses = [packet.ciaddr, packet.yiaddr, packet.siaddr, packet.giaddr];
  for (const [index, address] of addresses.entries()) view.setUint32(12 + 4 * index, addressNumber(address));
  bytes.set(packet.chaddr, 28);
  writeText(bytes, packet.sname, SNAME);
  writeText(bytes, packet.file, FILE);
  view.setUint32(236, COOKIE);
  bytes.set(options, OPTIONS_AT);
  bytes[OPTIONS_AT + options.length] = END;
  return bytes;
}

function writeText(bytes: Uint8Array, value: string, field: { readonly at: number; readonly size: number }): void {
  const encoded = Buffer.from(value, 'latin1');
  if (encoded.length >= field.size) {
    throw new DhcpError('DHCP_TOO_LONG', `'${value.slice(0, 40)}…' does not fit ${field.size - 1} bytes`);
  }
  bytes.set(encoded, field.at);
}
