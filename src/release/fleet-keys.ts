import { createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { Metadata, Root } from '@tufjs/models';
import { durableDisk, syncDirectory } from '../disk/durable-file.ts';
import { FileUnusable, readGuarded } from '../disk/guarded-file.ts';
import { createKeyFile, newSigningKey, readKeyFile } from '../disk/key-file.ts';
import { DOCUMENT_BYTES, MAX_CHANNELS } from './document.ts';
import { channelName } from './release.ts';
import { type SigningKey, signed, signingKey } from './signing-key.ts';
import { ticketPublicKey } from './ticket.ts';
import { type FleetFacts, fleetOf } from './trust-root.ts';

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
  /** What the fleet says of who belongs to it. @default nothing: its members are those of its description */
  readonly membership?: NewMembership;
}

type Json = Root['unrecognizedFields'][string];

export interface NewMembership {
  /** 16 bytes, hex. */
  readonly fleetId: string;
  /** JSON, signed with the next targets; what is in it is not this room's business. */
  readonly trust: Buffer;
  /** Keys that it names, by their names. */
  readonly issuers: ReadonlyMap<string, KeyObject>;
}

const DAY_MS = 86_400_000;
const TRUST_FILE = 'trust.json';
const KEY_FILE = /^channel-(.+)\.key$/;

/** The fleet's own keys: a directory (0700) of ed25519 keys (PKCS#8 PEM, 0600) and the root that names their public halves. */
export interface FleetKeys {
  readonly directory: string;
  readonly fleet: string;
  readonly fleetId: string | undefined;
  /** The initial root.json: what every node is given to trust. */
  readonly root: Buffer;
  /** Channels that have a key here, sorted. */
  channels(): Promise<readonly string[]>;
  /** Reads a key when it is needed, so that some may be kept elsewhere. Rejects with `FleetKeysUnusable`. */
  key(name: KeyName): Promise<SigningKey>;
  /** What the next targets say of membership; undefined where they say nothing. Rejects with `FleetKeysUnusable`. */
  trust(): Promise<Json | undefined>;
  setTrust(json: Buffer): Promise<void>;
  /** The key of an issuer of certificates, when it is here. Rejects with `FleetKeysUnusable`. */
  issuer(name: string): Promise<KeyObject | undefined>;
  /** False when there is one of that name: keys are never replaced. */
  addIssuer(name: string, key: KeyObject): Promise<boolean>;
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
    for (const [name, key] of keys) await createKeyFile(join(draft, `${name}.key`), key);
    await durableDisk.create(join(draft, 'ticket.pub'), Buffer.from(publicTicket(keys)));
    await durableDisk.create(join(draft, 'root.json'), initialRoot(keys, options));
    await writeMembership(draft, options.membership);
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
  const rootFile = join(path, 'root.json');
  const kept = await readGuarded(rootFile, { maxBytes: DOCUMENT_BYTES.root, secret: false }).catch(refuse);
  const root = kept ?? missing(rootFile);
  let facts: FleetFacts;
  try {
    facts = fleetOf(root);
  } catch (cause) {
    const message = `${join(path, 'root.json')} is damaged (${(cause as Error).message}): restore it from a backup`;
    throw new FleetKeysUnusable('corrupt', path, message, { cause });
  }
  return {
    directory: path,
    fleet: facts.fleet,
    fleetId: facts.fleetId,
    root,
    channels: () => listChannels(path),
    key: (name) => readKey(path, typeof name === 'string' ? name : channelKey(name.channel)),
    trust: () => readTrust(join(path, TRUST_FILE)),
    setTrust: (json) => durableDisk.replace(join(path, TRUST_FILE), json),
    issuer: (name) => readKeyFile(join(path, issuerFile(name))).catch(refuse),
    addIssuer: (name, key) => createKeyFile(join(path, issuerFile(name)), key),
  };
}

/** Gives a fleet one more channel; the next `publish` to it makes the fleet trust its key. */
export async function addChannelKey(keys: FleetKeys, channel: string): Promise<void> {
  checkChannels(keys.directory, [...(await keys.channels()), channel]);
  const file = join(keys.directory, `${channelKey(channel)}.key`);
  if (await createKeyFile(file, newSigningKey())) return;
  throw new FleetKeysUnusable('exists', file, `${file} is there already; keys are never overwritten`);
}

function newKey(name: string): [string, KeyObject] {
  return [name, newSigningKey()];
}

const issuerFile = (name: string): string => `issuer-${name}.key`;
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

async function writeMembership(directory: string, membership: NewMembership | undefined): Promise<void> {
  if (membership === undefined) return;
  await durableDisk.create(join(directory, TRUST_FILE), membership.trust);
  for (const [name, key] of membership.issuers) await createKeyFile(join(directory, issuerFile(name)), key);
}

async function readTrust(file: string): Promise<Json | undefined> {
  const json = await readGuarded(file, { maxBytes: DOCUMENT_BYTES.targets }).catch(refuse);
  try {
    return json && JSON.parse(json.toString('utf8'));
  } catch (cause) {
    const message = `${file} is damaged (${(cause as Error).message}): restore it from a backup`;
    throw new FleetKeysUnusable('corrupt', file, message, { cause });
  }
}

function initialRoot(keys: ReadonlyMap<string, KeyObject>, { fleet, rootDays = 1825, membership }: NewFleet): Buffer {
  const id = membership && { fleet_id: membership.fleetId };
  const root = new Metadata(
    new Root({
      version: 1,
      specVersion: '1.0.31',
      expires: expiry(Date.now(), rootDays),
      consistentSnapshot: true,
      unrecognizedFields: { bootmesh: { fleet, ...id, ticket_key: publicTicket(keys) } },
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
  const key = await readKeyFile(file).catch(refuse);
  return signingKey(key ?? missing(file));
}

function missing(file: string): never {
  const message = `${file} is missing: is this the directory of the fleet's keys?`;
  throw new FleetKeysUnusable('missing', file, message);
}

function refuse(error: unknown): never {
  if (!(error instanceof FileUnusable)) throw error;
  const reason = error.reason === 'unreadable' ? 'missing' : error.reason;
  throw new FleetKeysUnusable(reason, error.file, error.message, { cause: error });
}
