import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  timingSafeEqual,
} from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { durableDisk } from '../disk/durable-file.ts';
import { FileUnusable, readGuarded } from '../disk/guarded-file.ts';

/** In the data directory: an x25519 key in base64, as `wg genkey` writes it and `wg set … private-key` reads it. */
const WIREGUARD_KEY_FILE = 'wireguard.key';
const KEY_BYTES = 32;
const MAX_FILE_BYTES = 64;
/** PrivateKeyInfo and SubjectPublicKeyInfo of an x25519 key up to the key itself (RFC 8410). */
const PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex');
const SPKI = Buffer.from('302a300506032b656e032100', 'hex');

/** The key of this node's WireGuard interface. It has nothing to do with its peer id: one of them may be lost alone. */
export interface WireguardKey {
  readonly privateKey: KeyObject;
  /** Base64, as `wg pubkey` prints it. */
  readonly publicKey: string;
  /** Where `wg set … private-key` finds it: it is in no argument and no environment. */
  readonly file: string;
}

/** Made on first use, mode 0600. Rejects with `FileUnusable`: a key that is there is never replaced. */
export async function loadWireguardKey(dataDir: string): Promise<WireguardKey> {
  const file = join(dataDir, WIREGUARD_KEY_FILE);
  const kept = await readKey(file);
  if (kept !== undefined) return kept;
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  await durableDisk.create(file, Buffer.from(`${encodeWireguardKey(newWireguardKey())}\n`));
  // Another process may have been first: then its key is the node's.
  const made = await readKey(file);
  if (made === undefined) throw new FileUnusable('unreadable', file, 'went away while it was made: start again');
  return made;
}

export function newWireguardKey(): KeyObject {
  return generateKeyPairSync('x25519').privateKey;
}

/** Base64 of the private key. */
export function encodeWireguardKey(privateKey: KeyObject): string {
  const { d = '' } = privateKey.export({ format: 'jwk' });
  return Buffer.from(d, 'base64url').toString('base64');
}

export function wireguardPublicKey(privateKey: KeyObject): string {
  const { x = '' } = createPublicKey(privateKey).export({ format: 'jwk' });
  return Buffer.from(x, 'base64url').toString('base64');
}

/**
 * Proves that its holder has the private half: HMAC-SHA256 of `message` under HKDF-SHA256 (RFC 5869) of the X25519 secret
 * (RFC 7748) between that key and one that the asking side made up for this once.
 * @param theirKey base64
 */
export function proveWireguardKey(ownKey: KeyObject, theirKey: string, message: Uint8Array): Buffer {
  const publicKey = createPublicKey({ key: Buffer.concat([SPKI, rawKey(theirKey)]), format: 'der', type: 'spki' });
  const secret = diffieHellman({ privateKey: ownKey, publicKey });
  const key = hkdfSync('sha256', secret, Buffer.alloc(0), 'bootmesh-wireguard-proof-v1', KEY_BYTES);
  return createHmac('sha256', Buffer.from(key)).update(message).digest();
}

/** The other side of `proveWireguardKey`: with the made-up key, of the key that is to be proven. */
export function isWireguardProof(proof: Uint8Array, madeUp: KeyObject, claimed: string, message: Uint8Array): boolean {
  try {
    const expected = proveWireguardKey(madeUp, claimed, message);
    return proof.length === expected.length && timingSafeEqual(proof, expected);
  } catch {
    // A point of low order, with which everybody shares the same secret.
    return false;
  }
}

async function readKey(file: string): Promise<WireguardKey | undefined> {
  const text = await readGuarded(file, { maxBytes: MAX_FILE_BYTES });
  if (text === undefined) return undefined;
  try {
    const key = Buffer.concat([PKCS8, rawKey(text.toString('latin1').trim())]);
    const privateKey = createPrivateKey({ key, format: 'der', type: 'pkcs8' });
    return { privateKey, publicKey: wireguardPublicKey(privateKey), file };
  } catch (cause) {
    const problem = `is no WireGuard key (${(cause as Error).message}): restore it from a backup, or move it away`;
    throw new FileUnusable('corrupt', file, problem, { cause });
  }
}

function rawKey(base64: string): Buffer {
  const raw = Buffer.from(base64, 'base64');
  if (raw.length !== KEY_BYTES || raw.toString('base64') !== base64) throw new RangeError('not 32 bytes in base64');
  return raw;
}
