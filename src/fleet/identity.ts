import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, mkdir, open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import {
  generateKeyPair,
  generateKeyPairFromSeed,
  privateKeyFromProtobuf,
  privateKeyToProtobuf,
} from '@libp2p/crypto/keys';
import type { Ed25519PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';

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

async function read(file: string): Promise<Identity | undefined> {
  let handle: FileHandle;
  try {
    // A link or a device in the key's place is not ours; O_NONBLOCK keeps a named pipe from holding us up.
    handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw unreadable(file, error);
  }
  await using _ = handle;
  const stat = await handle.stat();
  if (!stat.isFile()) throw new IdentityUnusable('corrupt', file, 'is no regular file: move it away and restart');
  if ((stat.mode & 0o077) !== 0) {
    const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
    const advice = `\`chmod 600 ${file}\`, and replace the key if others may have read it`;
    throw new IdentityUnusable('exposed', file, `has mode ${mode}, so others may use it: run ${advice}`);
  }
  if (stat.size > MAX_KEY_BYTES) throw corrupt(file, `${stat.size} bytes are no ed25519 key`);
  const bytes = await handle.readFile().catch((error: unknown) => {
    throw unreadable(file, error);
  });
  return await decode(bytes, file);
}

async function create(dataDir: string, file: string): Promise<Identity> {
  const privateKey = await generateKeyPair('Ed25519');
  const draft = `${file}.${randomBytes(6).toString('hex')}`;
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    await write(draft, privateKeyToProtobuf(privateKey));
    // link() fails when another process was first: then its key is the node's.
    await link(draft, file);
    await sync(dataDir);
  } catch (error) {
    const first = (error as NodeJS.ErrnoException).code === 'EEXIST' ? await read(file) : undefined;
    if (first) return first;
    throw new IdentityUnusable('unreadable', file, `cannot be made (${(error as Error).message})`, { cause: error });
  } finally {
    await unlink(draft).catch(() => undefined);
  }
  return { peerId: peerIdFromPrivateKey(privateKey).toString(), privateKey };
}

async function write(file: string, bytes: Uint8Array): Promise<void> {
  await using handle = await open(file, 'wx', 0o600);
  await handle.writeFile(bytes);
  await handle.sync();
}

async function sync(directory: string): Promise<void> {
  await using handle = await open(directory);
  await handle.sync();
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

function unreadable(file: string, cause: unknown): IdentityUnusable {
  const message = `cannot be read (${(cause as Error).message}): run as its owner, or fix its permissions`;
  return new IdentityUnusable('unreadable', file, message, { cause });
}
