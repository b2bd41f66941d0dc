import { createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { Metadata, Root } from '@tufjs/models';
import { DOCUMENT_BYTES, MAX_CHANNELS } from './document.ts';
import { durableDisk, syncDirectory } from './durable-file.ts';
import { channelName } from './release.ts';
import { fromPem, newPrivateKey, type SigningKey, signed, signingKey, toPem } from './signing-key.ts';
import { ticketPublicKey } from './ticket.ts';
import { fleetOf } from './trust-root.ts';

/** A key or its directory cannot be used as it is; the message names the file and what to do. */
export class FleetKeysUnusable extends Error {
  readonly code = 'FLEET_KEYS_UNUSABLE';
  readonly reason: 'exists' | 'missing' | 'exposed' | 'corrupt' | 'invalid';
  readonly path: string;

  constructor(reason: FleetKeysUnusable['reason'], path: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'FleetKeysUnusable';
    this.reason = reason;
    this.path = path;
  }
}

/** Who signs what. `online` signs snapshot and timestamp; `ticket` what a guest checks; a channel its releases. */
type KeyName = 'root' | 'targets' | 'online' | 'ticket' | { readonly channel: string };

export interface NewFleet {
  /** Name of the fleet, as in its description. */
  readonly fleet: string;
  /** @default ['production', 'testing', 'development'] */
  readonly channels?: readonly string[];
  /** Until then nodes believe the root, days. @default 1825 */
  readonly rootDays?: number;
}

const MAX_KEY_BYTES = 4096;
const DAY_MS = 86_400_000;
const KEY_FILE = /^channel-(.+)\.key$/;

/** The fleet's own keys: a directory (0700) of ed25519 keys (PKCS#8 PEM, 0600) and the root that names their public halves. */
export interface FleetKeys {
  readonly directory: string;
  readonly fleet: string;
  /** The initial root.json: what every node is given to trust. */
  readonly root: Buffer;
  /** Channels that have a key here, sorted. */
  channels(): Promise<readonly string[]>;
  /** Reads a key when it is needed, so that some may be kept elsewhere. Rejects with `FleetKeysUnusable`. */
  key(name: KeyName): Promise<SigningKey>;
}

/**
 * Makes the keys of a fleet whose thresholds are 1. All of the directory appears at once or not at all; a directory that
 * has anything in it is never touched.
 */
export async function createFleetKeys(directory: string, options: NewFleet): Promise<FleetKeys> {
  const path = resolve(directory);
  const channels = checkChannels(path, options.channels ?? ['production', 'testing', 'development']);
  const draft = `${path}.${randomBytes(6).toString('hex')}.draft`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await mkdir(draft, { mode: 0o700 });
    const keys = new Map(['root', 'targets', 'online', 'ticket', ...channels.map(channelKey)].map(newKey));
    for (const [name, key] of keys) await durableDisk.create(join(draft, `${name}.key`), Buffer.from(toPem(key)));
    await durableDisk.create(join(draft, 'ticket.pub'), Buffer.from(publicTicket(keys)));
    await durableDisk.create(join(draft, 'root.json'), initialRoot(keys, options));
    await rename(draft, path);
    await syncDirectory(dirname(path));
  } catch (cause) {
    if (!['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes((cause as NodeJS.ErrnoException).code ?? '')) throw cause;
    const advice = 'keys are never overwritten: choose another directory, or use those that are there';
    throw new FleetKeysUnusable('exists', path, `${path} is there already; ${advice}`, { cause });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return openFleetKeys(path);
}

/** Rejects with `FleetKeysUnusable`. */
export async function openFleetKeys(directory: string): Promise<FleetKeys> {
  const path = resolve(directory);
  const root = await read(join(path, 'root.json'), DOCUMENT_BYTES.root, false);
  let fleet: string;
  try {
    fleet = fleetOf(root).fleet;
  } catch (cause) {
    const message = `${join(path, 'root.json')} is damaged (${(cause as Error).message}): restore it from a backup`;
    throw new FleetKeysUnusable('corrupt', path, message, { cause });
  }
  return {
    directory: path,
    fleet,
    root,
    channels: () => listChannels(path),
    key: (name) => readKey(path, typeof name === 'string' ? name : channelKey(name.channel)),
  };
}

/** Gives a fleet one more channel; the next `publish` to it makes the fleet trust its key. */
export async function addChannelKey(keys: FleetKeys, channel: string): Promise<void> {
  checkChannels(keys.directory, [...(await keys.channels()), channel]);
  const file = join(keys.directory, `${channelKey(channel)}.key`);
  if (await durableDisk.create(file, Buffer.from(toPem(newPrivateKey())))) return;
  throw new FleetKeysUnusable('exists', file, `${file} is there already; keys are never overwritten`);
}

function newKey(name: string): [string, KeyObject] {
  return [name, newPrivateKey()];
}

const channelKey = (channel: string): string => `channel-${channel}`;

function checkChannels(path: string, channels: readonly string[]): readonly string[] {
  const wrong = channels.find((channel) => !channelName.safeParse(channel).success);
  const fault =
    wrong !== undefined
      ? `${JSON.stringify(wrong)} is no channel: 1 to 32 of a-z, 0-9 and inner dashes, and not the name of a TUF role`
      : channels.length > MAX_CHANNELS
        ? `${channels.length} channels are too many: a fleet has at most ${MAX_CHANNELS}`
        : undefined;
  if (fault !== undefined) throw new FleetKeysUnusable('invalid', path, fault);
  return [...new Set(channels)];
}

function publicTicket(keys: ReadonlyMap<string, KeyObject>): string {
  return ticketPublicKey(createPublicKey(keys.get('ticket') as KeyObject));
}

function initialRoot(keys: ReadonlyMap<string, KeyObject>, { fleet, rootDays = 1825 }: NewFleet): Buffer {
  const root = new Metadata(
    new Root({
      version: 1,
      specVersion: '1.0.31',
      expires: expiry(Date.now(), rootDays),
      consistentSnapshot: true,
      unrecognizedFields: { bootmesh: { fleet, ticket_key: publicTicket(keys) } },
    }),
  );
  const key = (name: string) => signingKey(keys.get(name) as KeyObject);
  root.signed.addKey(key('root').key, 'root');
  root.signed.addKey(key('targets').key, 'targets');
  root.signed.addKey(key('online').key, 'snapshot');
  root.signed.addKey(key('online').key, 'timestamp');
  const bytes = signed(root, key('root'));
  fleetOf(bytes); // Refuses a fleet's name that nodes would refuse.
  return bytes;
}

/** TUF times have whole seconds. */
export function expiry(from: number, days: number): string {
  return `${new Date(from + days * DAY_MS).toISOString().slice(0, 19)}Z`;
}

async function listChannels(path: string): Promise<readonly string[]> {
  const names = await readdir(path);
  return names.flatMap((name) => KEY_FILE.exec(name)?.[1] ?? []).toSorted();
}

async function readKey(path: string, name: string): Promise<SigningKey> {
  const file = join(path, `${name}.key`);
  const pem = await read(file, MAX_KEY_BYTES, true);
  try {
    return signingKey(fromPem(pem.toString('latin1')));
  } catch (cause) {
    const message = `${file} is damaged (${(cause as Error).message}): restore it from a backup`;
    throw new FleetKeysUnusable('corrupt', file, message, { cause });
  }
}

async function read(file: string, maxBytes: number, secret: boolean): Promise<Buffer> {
  let handle: FileHandle;
  try {
    // A link or a device in the key's place is not ours; O_NONBLOCK keeps a named pipe from holding us up.
    handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    const message = `${file} cannot be read (${(cause as Error).message}): is this the directory of the fleet's keys?`;
    throw new FleetKeysUnusable('missing', file, message, { cause });
  }
  await using _ = handle;
  const stat = await handle.stat();
  if (secret && (stat.mode & 0o077) !== 0) {
    const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
    const advice = `run \`chmod 600 ${file}\`, and replace the key if others may have read it`;
    throw new FleetKeysUnusable('exposed', file, `${file} has mode ${mode}, so others may sign with it: ${advice}`);
  }
  if (!stat.isFile() || stat.size > maxBytes) {
    throw new FleetKeysUnusable('corrupt', file, `${file} is no regular file of at most ${maxBytes} bytes`);
  }
  return handle.readFile();
}
