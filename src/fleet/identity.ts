import { createPrivateKey, type KeyObject } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  generateKeyPair,
  generateKeyPairFromSeed,
  privateKeyFromProtobuf,
  privateKeyToProtobuf,
} from '@libp2p/crypto/keys';
import type { Ed25519PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { durableDisk } from '../disk/durable-file.ts';
import { FileUnusable, readGuarded } from '../disk/guarded-file.ts';

export interface Identity {
  readonly peerId: string;
  readonly privateKey: Ed25519PrivateKey;
}

/** The key file is there and may not be used; `reason` says why, the message what to do. Never replaced by itself. */
export class IdentityUnusable extends Error {
  readonly code = 'IDENTITY_UNUSABLE';
  readonly reason: 'unreadable' | 'exposed' | 'corrupt';
  readonly file: string;

  constructor(reason: 'unreadable' | 'exposed' | 'corrupt', file: string, message: string, options?: ErrorOptions) {
    super(`the node's key ${file} ${message}`, options);
    this.name = 'IdentityUnusable';
    this.reason = reason;
    this.file = file;
  }
}

/** In the data directory: an ed25519 key in libp2p's protobuf form, as other libp2p programs read it. */
export const IDENTITY_FILE = 'identity.key';
/** An ed25519 key takes 68 bytes; a larger file is no key of ours. */
const MAX_KEY_BYTES = 1024;

/**
 * The node's identity, made on first use (mode 0600, complete or not there at all, also after a power loss). Two
 * processes that start at once end up with the same key. Rejects with `IdentityUnusable`.
 */
export async function loadIdentity(dataDir: string): Promise<Identity> {
  const file = join(dataDir, IDENTITY_FILE);
  return (await read(file)) ?? (await create(dataDir, file));
}

/** PrivateKeyInfo of an ed25519 key up to the seed (RFC 8410). */
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex');

/** The identity's key for what Node signs: libp2p's holds the seed and the public key. */
export function signingKeyOf({ privateKey }: Identity): KeyObject {
  const key = Buffer.concat([PKCS8, privateKey.raw.subarray(0, 32)]);
  return createPrivateKey({ key, format: 'der', type: 'pkcs8' });
}

async function read(file: string): Promise<Identity | undefined> {
  try {
    const bytes = await readGuarded(file, { maxBytes: MAX_KEY_BYTES });
    return bytes && (await decode(bytes, file));
  } catch (error) {
    if (!(error instanceof FileUnusable)) throw error;
    throw new IdentityUnusable(error.reason, file, error.problem, { cause: error });
  }
}

async function create(dataDir: string, file: string): Promise<Identity> {
  const privateKey = await generateKeyPair('Ed25519');
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    if (await durableDisk.create(file, privateKeyToProtobuf(privateKey))) {
      return { peerId: peerIdFromPrivateKey(privateKey).toString(), privateKey };
    }
  } catch (error) {
    throw new IdentityUnusable('unreadable', file, `cannot be made (${(error as Error).message})`, { cause: error });
  }
  // Another process was first: then its key is the node's.
  const first = await read(file);
  if (first === undefined) throw new IdentityUnusable('unreadable', file, 'went away while it was made: start again');
  return first;
}

async function decode(bytes: Uint8Array, file: string): Promise<Identity> {
  try {
    const privateKey = privateKeyFromProtobuf(bytes);
    if (privateKey.type !== 'Ed25519') throw new TypeError(`a key of type ${privateKey.type}`);
    // The file holds seed and public key; libp2p does not check one against the other, so a flipped bit would pass.
    const expected = await generateKeyPairFromSeed('Ed25519', privateKey.raw.subarray(0, 32));
    if (!privateKey.equals(expected)) throw new TypeError('its two halves do not match');
    return { peerId: peerIdFromPrivateKey(privateKey).toString(), privateKey };
  } catch (error) {
    throw corrupt(file, (error as Error).message, error);
  }
}

function corrupt(file: string, why: string, cause?: unknown): IdentityUnusable {
  const advice = 'restore it from a backup, or move it away to get a new identity (which the fleet must then admit)';
  return new IdentityUnusable('corrupt', file, `is damaged (${why}): ${advice}`, { cause });
}
