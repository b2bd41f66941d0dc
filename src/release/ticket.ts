import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { type ArtifactRef, artifactsOf, type Release } from './release.ts';

/** A ticket, its signature or its key is not what it should be; `message` says which and why. */
export class TicketInvalid extends Error {
  readonly code = 'TICKET_INVALID';

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TicketInvalid';
  }
}

/** Bytes of the rootfs that one line of the pieces text covers; the last piece may be shorter. */
export const PIECE_BYTES = 4 * 1024 * 1024;

/**
 * What a diskless guest knows of a release: text that a shell can read, checked by `signify-openbsd -V` before it
 * believes a byte of a rootfs. One line per fact, fields separated by one space:
 *
 *     bootmesh-ticket 1
 *     fleet <name>
 *     channel <name>
 *     version <n>
 *     issued <UTC time>
 *     kernel <cid> <size> <sha256>          kernel, initramfs and rootfs: only where the release has them
 *     initramfs <cid> <size> <sha256>
 *     rootfs <cid> <size> <sha256> <sha256 of the pieces text> 4194304
 */
export function ticketText(fleet: string, release: Release): string {
  const head = ['bootmesh-ticket 1', `fleet ${fleet}`, `channel ${release.channel}`];
  const lines = artifactsOf(release).map(([role, artifact]) => artifactLine(role, artifact));
  return [...head, `version ${release.version}`, `issued ${release.issued}`, ...lines, ''].join('\n');
}

function artifactLine(role: string, { cid, size, sha256, pieces }: ArtifactRef): string {
  const line = `${role} ${cid} ${size} ${sha256}`;
  if (role !== 'rootfs') return line;
  if (pieces === undefined) throw new TicketInvalid('the rootfs has no sha256 of its pieces, which a ticket must name');
  return `${line} ${pieces} ${PIECE_BYTES}`;
}

/** Signify's files: algorithm "Ed" ‖ 8-byte key number ‖ payload (32-byte key or 64-byte signature), base64 on line 2. */
const ALGORITHM = Buffer.from('Ed', 'latin1');
const HEAD_BYTES = 10;
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;

/** The public key as a signify file (`signify-openbsd -p`). The key number is the start of the key's sha256. */
export function ticketPublicKey(key: KeyObject): string {
  return encode('bootmesh ticket public key', [keyNumber(rawPublic(key)), rawPublic(key)]);
}

/** A detached signature as a signify file (`signify-openbsd -V -x`). `key` is an ed25519 private key. */
export function signTicket(text: string, key: KeyObject): string {
  const number = keyNumber(rawPublic(createPublicKey(key)));
  return encode('verify with the fleet ticket key', [number, sign(null, Buffer.from(text), key)]);
}

/** Throws `TicketInvalid` unless `signature` is that of `publicKey` (both signify files) over `text`. */
export function verifyTicket(text: string, signature: string, publicKey: string): void {
  const key = decode(publicKey, KEY_BYTES, 'the ticket key');
  const signed = decode(signature, SIGNATURE_BYTES, 'the ticket signature');
  if (!key.number.equals(signed.number))
    throw new TicketInvalid("the ticket is signed by another key than the fleet's");
  const spki = { key: Buffer.concat([SPKI_ED25519, key.payload]), format: 'der', type: 'spki' } as const;
  if (!verify(null, Buffer.from(text), createPublicKey(spki), signed.payload)) {
    throw new TicketInvalid('the signature does not match the ticket');
  }
}

/** Throws `TicketInvalid` when `key` (a signify public key file) cannot be read. */
export function checkTicketKey(key: string): void {
  decode(key, KEY_BYTES, 'the ticket key');
}

/** DER of an ed25519 SubjectPublicKeyInfo up to the key itself (RFC 8410, section 4). */
const SPKI_ED25519 = Buffer.from('302a300506032b6570032100', 'hex');

/** The 32 bytes of an ed25519 public key. */
export function rawPublic(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' }).subarray(SPKI_ED25519.length);
}

function keyNumber(raw: Uint8Array): Buffer {
  return createHash('sha256').update(raw).digest().subarray(0, 8);
}

function encode(comment: string, parts: readonly Uint8Array[]): string {
  return `untrusted comment: ${comment}\n${Buffer.concat([ALGORITHM, ...parts]).toString('base64')}\n`;
}

function decode(file: string, payloadBytes: number, what: string): { number: Buffer; payload: Buffer } {
  const [, base64] = /^untrusted comment: [^\n]{0,200}\n([A-Za-z0-9+/]{1,200}={0,2})\n$/.exec(file) ?? [];
  const bytes = Buffer.from(base64 ?? '', 'base64');
  if (bytes.length !== HEAD_BYTES + payloadBytes || !bytes.subarray(0, 2).equals(ALGORITHM)) {
    throw new TicketInvalid(`${what} is no signify file of an ed25519 key`);
  }
  return { number: bytes.subarray(2, HEAD_BYTES), payload: bytes.subarray(HEAD_BYTES) };
}
