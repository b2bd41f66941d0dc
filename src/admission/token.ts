import { createHash } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import { TokenSchema } from './admission_pb.ts';
import { AdmissionRefused } from './refusal.ts';

/** What a machine is given to join with. Whoever has it can join in that machine's place, once. */
export interface Token {
  /** Hex sha256 of the fleet's root.json. */
  readonly rootDigest: string;
  /** Who minted it: a door with another key is not the one that it opens. */
  readonly peerId: string;
  /** Multiaddrs of that door. */
  readonly addresses: readonly string[];
  readonly secret: Uint8Array;
  /** Seconds since 1970. */
  readonly notAfter: number;
}

export const SECRET_BYTES = 16;
/** Addresses that a token has room for. */
export const MAX_DOORS = 6;
const PREFIX = 'bm1.';
const CHECKSUM_BYTES = 4;
const MAX_TEXT = 2048;

/** One word, without blanks: for a command line, a message, a QR code. */
export function writeToken({ rootDigest, peerId, addresses, secret, notAfter }: Token): string {
  const message = create(TokenSchema, {
    rootDigest: Buffer.from(rootDigest, 'hex'),
    peerId,
    addresses: addresses.slice(0, MAX_DOORS),
    secret,
    notAfter: BigInt(notAfter),
  });
  const body = toBinary(TokenSchema, message);
  return `${PREFIX}${Buffer.concat([body, checksum(body)]).toString('base64url')}`;
}

/** Throws `AdmissionRefused` (token). */
export function readToken(text: string): Token {
  const word = text.trim();
  if (!word.startsWith(PREFIX) || word.length > MAX_TEXT) {
    throw refused(`a token is one word that starts with ${PREFIX}; \`bootmesh fleet invite\` prints it`);
  }
  const bytes = Buffer.from(word.slice(PREFIX.length), 'base64url');
  const body = bytes.subarray(0, Math.max(0, bytes.length - CHECKSUM_BYTES));
  const strict = bytes.toString('base64url') === word.slice(PREFIX.length);
  if (!strict || !checksum(body).equals(bytes.subarray(body.length))) {
    throw refused('the token is not whole: copy it again, from its first letter to its last');
  }
  try {
    const { rootDigest, peerId, addresses, secret, notAfter } = fromBinary(TokenSchema, body);
    if (rootDigest.length !== 32 || secret.length !== SECRET_BYTES) throw new RangeError('parts of wrong lengths');
    if (addresses.length === 0 || addresses.length > MAX_DOORS) throw new RangeError(`${addresses.length} addresses`);
    for (const address of addresses) multiaddr(address);
    if (notAfter > BigInt(Number.MAX_SAFE_INTEGER)) throw new RangeError('no time');
    const digest = Buffer.from(rootDigest).toString('hex');
    return {
      rootDigest: digest,
      peerId: peerIdFromString(peerId).toString(),
      addresses,
      secret,
      notAfter: Number(notAfter),
    };
  } catch (cause) {
    throw refused(`the token is of no version that is understood here (${(cause as Error).message})`, cause);
  }
}

function checksum(body: Uint8Array): Buffer {
  return createHash('sha256').update(body).digest().subarray(0, CHECKSUM_BYTES);
}

function refused(message: string, cause?: unknown): AdmissionRefused {
  return new AdmissionRefused('token', message, { cause });
}
