/** A message that is no TFTP message; nothing else is ever thrown for input. */
export class TftpFormatError extends Error {
  override readonly name = 'TftpFormatError';
  readonly code = 'TFTP_FORMAT';
}

/** RFC 1350 with the option extension of RFC 2347. Option names are lower case. */
export type TftpPacket =
  | {
      readonly kind: 'read' | 'write';
      readonly file: string;
      readonly mode: string;
      readonly options: ReadonlyMap<string, string>;
    }
  | { readonly kind: 'data'; readonly block: number; readonly bytes: Uint8Array }
  | { readonly kind: 'ack'; readonly block: number }
  | { readonly kind: 'error'; readonly code: number; readonly message: string }
  | { readonly kind: 'oack'; readonly options: ReadonlyMap<string, string> };

/** RFC 1350 appendix, RFC 2347 (8). */
export const tftpError = {
  undefined: 0,
  notFound: 1,
  access: 2,
  illegal: 4,
  unknownTransfer: 5,
  badOptions: 8,
} as const;

const OPCODES = { read: 1, write: 2, data: 3, ack: 4, error: 5, oack: 6 } as const;
/** Requests fit 512 bytes (RFC 2347); data up to the largest block (RFC 2348). */
const MAX_REQUEST_BYTES = 512;
const MAX_BLOCK_BYTES = 65_464;
const MAX_OPTIONS = 16;

/** @throws TftpFormatError */
export function decodeTftp(input: Uint8Array): TftpPacket {
  // A plain array over the same memory: `slice` of a Buffer would be a view, and keep a whole receive slab alive.
  const bytes = new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 4 || bytes.length > MAX_BLOCK_BYTES + 4) throw new TftpFormatError(`${bytes.length} bytes`);
  const body = bytes.subarray(2);
  switch (view.getUint16(0)) {
    case OPCODES.read:
      return request('read', body);
    case OPCODES.write:
      return request('write', body);
    case OPCODES.data:
      return { kind: 'data', block: view.getUint16(2), bytes: bytes.slice(4) };
    case OPCODES.ack:
      return { kind: 'ack', block: view.getUint16(2) };
    case OPCODES.error:
      // Some clients leave the closing NUL out.
      return { kind: 'error', code: view.getUint16(2), message: message(bytes.subarray(4, 516)) };
    case OPCODES.oack:
      return { kind: 'oack', options: options(strings(body)) };
    default:
      throw new TftpFormatError(`operation ${view.getUint16(0)} is unknown`);
  }
}

function request(kind: 'read' | 'write', body: Uint8Array): TftpPacket {
  const [file, mode, ...rest] = strings(body);
  if (file === undefined || mode === undefined || file === '') throw new TftpFormatError('a request without a name');
  return { kind, file, mode: mode.toLowerCase(), options: options(rest) };
}

/** NUL-terminated strings, latin1. */
function strings(body: Uint8Array): string[] {
  if (body.length > MAX_REQUEST_BYTES) throw new TftpFormatError(`a request of ${body.length + 2} bytes is too long`);
  if (body.at(-1) !== 0) throw new TftpFormatError('a string has no end');
  return Buffer.from(body.subarray(0, -1)).toString('latin1').split('\0');
}

function options(words: readonly string[]): ReadonlyMap<string, string> {
  if (words.length % 2 !== 0) throw new TftpFormatError('an option has no value');
  if (words.length > 2 * MAX_OPTIONS) throw new TftpFormatError('too many options');
  const pairs = new Map<string, string>();
  for (let index = 0; index < words.length; index += 2) {
    const name = (words[index] ?? '').toLowerCase();
    if (!pairs.has(name)) pairs.set(name, words[index + 1] ?? '');
  }
  return pairs;
}

function message(field: Uint8Array): string {
  const end = field.indexOf(0);
  return Buffer.from(end === -1 ? field : field.subarray(0, end)).toString('latin1');
}

export function encodeTftp(packet: TftpPacket): Uint8Array {
  const head = (second: number) => {
    const opcode = OPCODES[packet.kind];
    return Uint8Array.of(0, opcode, (second >>> 8) & 255, second & 255);
  };
  switch (packet.kind) {
    case 'data':
      return Buffer.concat([head(packet.block), packet.bytes]);
    case 'ack':
      return head(packet.block);
    case 'error':
      return Buffer.concat([head(packet.code), Buffer.from(`${packet.message}\0`, 'latin1')]);
    case 'oack':
      return Buffer.concat([Uint8Array.of(0, OPCODES.oack), words([...packet.options].flat())]);
    default:
      return Buffer.concat([
        Uint8Array.of(0, OPCODES[packet.kind]),
        words([packet.file, packet.mode, ...[...packet.options].flat()]),
      ]);
  }
}

function words(list: readonly string[]): Buffer {
  return Buffer.from(list.map((word) => `${word}\0`).join(''), 'latin1');
}
