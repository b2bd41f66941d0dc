import { mkdir, readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { canonicalize } from '@tufjs/canonical-json';
import { Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp } from '@tufjs/models';
import { Delegations } from '@tufjs/models/dist/delegations.js';
import { DelegatedRole } from '@tufjs/models/dist/role.js';
import { type Disk, durableDisk } from '../disk/durable-file.ts';
import { type Chain, type ChannelEvidence, readChain, readChannel, sha256 } from './chain.ts';
import { releaseName, releasePath, rootName, snapshotName, TIMESTAMP, targetsName } from './document.ts';
import { expiry, type FleetKeys } from './fleet-keys.ts';
import { type ArtifactRef, checkRelease, type Release } from './release.ts';
import { type SigningKey, signed } from './signing-key.ts';
import { signTicket, ticketText } from './ticket.ts';
import { readRoot } from './trust-root.ts';

/** What is asked for cannot be published; `reason` says what to do about it. */
export class PublishRefused extends Error {
  readonly code = 'PUBLISH_REFUSED';
  /** channel: no key; version: used already; conflict: another publish won, try again; damaged: see the message. */
  readonly reason: 'channel' | 'version' | 'conflict' | 'damaged';

  constructor(reason: PublishRefused['reason'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'PublishRefused';
    this.reason = reason;
  }
}

/** How long each role's metadata is believed, days. */
export const EXPIRY_DAYS = { targets: 365, channel: 365, snapshot: 90, timestamp: 30 };

interface Repository {
  readonly keys: FleetKeys;
  /** The publisher's metadata: a plain TUF repository that any web server may serve. Made when missing. */
  readonly directory: string;
  /** @default EXPIRY_DAYS */
  readonly expiresInDays?: Partial<typeof EXPIRY_DAYS>;
}

export interface PublishRequest extends Repository {
  readonly channel: string;
  readonly kernel?: ArtifactRef | undefined;
  readonly initramfs?: ArtifactRef | undefined;
  /** Needs `pieces`. */
  readonly rootfs?: ArtifactRef | undefined;
  /** Kernel command line template. @default '' */
  readonly cmdline?: string | undefined;
  /** Greater than the channel's newest. @default the next one */
  readonly version?: number | undefined;
}

interface PublishDeps {
  readonly disk?: Disk;
  /** Milliseconds of the epoch. @default Date.now */
  readonly clock?: () => number;
}

/**
 * Signs a release and puts it into the repository. Every file but the last is new and named by its version, so that a
 * crash at any point leaves the old state or the new one; numbers that a crash used up are skipped. The new state is
 * there from the moment its `N.timestamp.json` is: of two publishers at once, one gets `PublishRefused` (conflict).
 */
export async function publish(request: PublishRequest, deps: PublishDeps = {}): Promise<Release> {
  const session = await openSession(request, deps);
  const { keys, channel } = request;
  if (!(await keys.channels()).includes(channel)) throw noChannel(keys, channel, await keys.channels());
  const previous = session.evidence.get(channel)?.release.version ?? 0;
  const version = request.version ?? previous + 1;
  if (version <= previous) {
    throw new PublishRefused('version', `${channel} is at version ${previous}: publish a greater one than ${version}`);
  }
  const { kernel, initramfs, rootfs, cmdline = '' } = request;
  const issued = expiry(session.now, 0);
  const boot = definedOnly({ kernel, initramfs, rootfs, cmdline });
  const unsigned = checkRelease({ format: 1, channel, version, issued, arch: { x86_64: boot } });
  const text = ticketText(keys.fleet, unsigned);
  const signature = signTicket(text, (await keys.key('ticket')).privateKey);
  const release = checkRelease({ ...unsigned, ticket: { text, signature } });
  await session.write({ channel, release: Buffer.from(JSON.stringify(release)) });
  return release;
}

/** Signs the newest state anew, so that it does not expire. Needs the online key only. */
export async function renew(repository: Repository, deps: PublishDeps = {}): Promise<void> {
  await (await openSession(repository, deps)).write();
}

/** The newest complete state of the repository, by document name: what `Channels.adopt` reads. */
export async function readRepository(directory: string, name: string): Promise<Buffer | undefined> {
  const file = name === TIMESTAMP ? (await newestTimestamp(directory)).file : name;
  if (file === undefined) return undefined;
  return readFile(join(directory, file)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

async function openSession({ keys, directory, expiresInDays }: Repository, deps: PublishDeps): Promise<Session> {
  await mkdir(join(directory, 'targets'), { recursive: true });
  const names = new Set(await readdir(directory));
  const newest = await newestTimestamp(directory);
  const chain = newest.file === undefined ? undefined : await readNewest(directory, newest.file, keys.root, names);
  const days = { ...EXPIRY_DAYS, ...expiresInDays };
  const { disk = durableDisk, clock = Date.now } = deps;
  return new Session({ keys, directory, names, timestamp: newest.version, days, now: clock(), disk, state: chain });
}

interface State {
  readonly chain: Chain;
  readonly evidence: ReadonlyMap<string, ChannelEvidence>;
}

interface SessionFacts {
  readonly keys: FleetKeys;
  readonly directory: string;
  readonly names: ReadonlySet<string>;
  readonly timestamp: number;
  readonly days: typeof EXPIRY_DAYS;
  readonly now: number;
  readonly disk: Disk;
  readonly state: State | undefined;
}

/** One publish: what was there, and the steps that put the next state beside it. */
class Session {
  readonly #facts: SessionFacts;

  constructor(facts: SessionFacts) {
    this.#facts = facts;
  }

  get now(): number {
    return this.#facts.now;
  }

  get evidence(): ReadonlyMap<string, ChannelEvidence> {
    return this.#facts.state?.evidence ?? new Map();
  }

  async write(news?: { channel: string; release: Buffer }): Promise<void> {
    const { keys, state, timestamp, directory, disk } = this.#facts;
    await this.#create(rootName(readRoot(keys.root).signed.version), keys.root, true);
    const meta = { ...state?.chain.snapshot.signed.meta };
    const targets = await this.#targets();
    if (targets !== undefined)
      meta['targets.json'] = await this.#signedFile('targets', targets, await keys.key('targets'));
    if (news !== undefined) meta[`${news.channel}.json`] = await this.#channel(news.channel, news.release);

    const online = await keys.key('online');
    const snapshot = new Snapshot({ ...this.#head('snapshot', this.#next('snapshot')), meta });
    const snapshotMeta = await this.#signedFile('snapshot', new Metadata(snapshot), online);
    const next = new Timestamp({ ...this.#head('timestamp', timestamp + 1), snapshotMeta });
    const bytes = signed(new Metadata(next), online);
    await this.#create(`${timestamp + 1}.${TIMESTAMP}`, bytes);
    // For plain TUF clients over HTTP; ours read the newest numbered one, which is the truth.
    await disk.replace(join(directory, TIMESTAMP), (await readRepository(directory, TIMESTAMP)) ?? bytes);
  }

  /** The top-level targets, when a channel, its key, or what they say of membership is new. */
  async #targets(): Promise<Metadata<Targets> | undefined> {
    const { keys, state } = this.#facts;
    const old = state?.chain.targets.signed.delegations;
    const delegations = new Delegations({ keys: { ...old?.keys }, roles: { ...old?.roles } });
    let changed = state === undefined || !believes(keys.root, state.chain.targets);
    for (const channel of await keys.channels()) {
      const { key } = await keys.key({ channel });
      if (delegations.roles?.[channel]?.keyIDs.includes(key.keyID)) continue;
      const paths = [releasePath(channel)];
      const role = new DelegatedRole({ name: channel, keyIDs: [key.keyID], threshold: 1, terminating: true, paths });
      delegations.keys[key.keyID] = key;
      if (delegations.roles) delegations.roles[channel] = role;
      changed = true;
    }
    const trust = await keys.trust();
    if (!changed && same(trust, state?.chain.trust)) return undefined;
    const head = this.#head('targets', this.#next('targets'));
    const unrecognizedFields = trust === undefined ? {} : { bootmesh: { trust } };
    return new Metadata(new Targets({ ...head, targets: {}, delegations, unrecognizedFields }));
  }

  async #channel(channel: string, release: Buffer): Promise<MetaFile> {
    const digest = sha256(release);
    const path = releasePath(channel);
    await this.#create(releaseName(channel, digest), release, true);
    const target = new TargetFile({ path, length: release.length, hashes: { sha256: digest } });
    const targets = new Targets({ ...this.#head('channel', this.#next(channel)), targets: { [path]: target } });
    return this.#signedFile(channel, new Metadata(targets), await this.#facts.keys.key({ channel }));
  }

  async #signedFile(
    role: string,
    metadata: Metadata<Targets> | Metadata<Snapshot>,
    key: SigningKey,
  ): Promise<MetaFile> {
    const bytes = signed(metadata, key);
    const { version } = metadata.signed;
    await this.#create(role === 'snapshot' ? snapshotName(version) : targetsName(role, version), bytes);
    return new MetaFile({ version, length: bytes.length, hashes: { sha256: sha256(bytes) } });
  }

  #head(role: keyof typeof EXPIRY_DAYS, version: number): { version: number; specVersion: string; expires: string } {
    return { version, specVersion: '1.0.31', expires: expiry(this.#facts.now, this.#facts.days[role]) };
  }

  /** One above every file of the role, those that a crashed publish left behind included. */
  #next(role: string): number {
    return Math.max(0, ...[...this.#facts.names].map((name) => versionOf(name, role))) + 1;
  }

  async #create(name: string, bytes: Buffer, mayExist = false): Promise<void> {
    const file = join(this.#facts.directory, name);
    await mkdir(dirname(file), { recursive: true });
    if ((await this.#facts.disk.create(file, bytes)) || (mayExist && (await readFile(file)).equals(bytes))) return;
    throw new PublishRefused('conflict', `${file} is there already: another publish won, run this one again`);
  }
}

/** The newest state may be signed under any of the fleet's roots: that of the keys, or one that they replaced. */
async function readNewest(
  directory: string,
  timestamp: string,
  root: Buffer,
  names: ReadonlySet<string>,
): Promise<State> {
  const versions = [...names].map((name) => versionOf(name, 'root')).filter((version) => version > 0);
  const older = versions.toSorted((a, b) => b - a).map((version) => readFile(join(directory, rootName(version))));
  let refused: unknown;
  for (const anchor of [root, ...(await Promise.all(older))]) {
    try {
      return await readState(directory, timestamp, anchor);
    } catch (error) {
      refused ??= error;
    }
  }
  throw refused;
}

async function readState(directory: string, timestamp: string, anchor: Buffer): Promise<State> {
  try {
    const documents = new Map<string, Buffer>();
    const load = async (name: string, file = name) => documents.set(name, await readFile(join(directory, file)));
    await load(TIMESTAMP, timestamp);
    // Bottom up: each document says which one is next, and `readChain` checks them all.
    const head = Timestamp.fromJSON(signedPart(documents.get(TIMESTAMP)));
    await load(snapshotName(head.snapshotMeta.version));
    const { meta } = Snapshot.fromJSON(signedPart(documents.get(snapshotName(head.snapshotMeta.version))));
    const targetsFile = targetsName('targets', meta['targets.json']?.version ?? 0);
    await load(targetsFile);
    const chain = readChain(documents, anchor);
    const evidence = new Map<string, ChannelEvidence>();
    for (const [channel, name] of chain.channels) {
      if (name === undefined) continue;
      await load(name);
      const target = Targets.fromJSON(signedPart(documents.get(name))).targets[releasePath(channel)];
      await load(releaseName(channel, target?.hashes['sha256'] ?? ''));
      evidence.set(channel, readChannel(chain, documents, channel, name));
    }
    return { chain, evidence };
  } catch (cause) {
    const advice = 'restore the directory from a backup, or from a node that runs the newest release';
    const message = `${join(directory, timestamp)} leads to damaged metadata (${(cause as Error).message}): ${advice}`;
    throw new PublishRefused('damaged', message, { cause });
  }
}

function signedPart(bytes: Buffer | undefined): Parameters<typeof Timestamp.fromJSON>[0] {
  return JSON.parse((bytes ?? Buffer.from('{}')).toString('utf8')).signed;
}

async function newestTimestamp(directory: string): Promise<{ version: number; file: string | undefined }> {
  const version = Math.max(0, ...(await readdir(directory)).map((name) => versionOf(name, 'timestamp')));
  return { version, file: version === 0 ? undefined : `${version}.${TIMESTAMP}` };
}

function versionOf(name: string, role: string): number {
  const [, version] = /^([1-9]\d{0,14})\.([a-z0-9-]+)\.json$/.exec(name) ?? [];
  return version !== undefined && name === `${version}.${role}.json` ? Number(version) : 0;
}

function same(one: unknown, other: unknown): boolean {
  return canonicalize(one ?? null) === canonicalize(other ?? null);
}

function believes(root: Buffer, targets: Metadata<Targets>): boolean {
  try {
    readRoot(root).verifyDelegate('targets', targets);
    return true;
  } catch {
    return false;
  }
}

function noChannel(keys: FleetKeys, channel: string, known: readonly string[]): PublishRefused {
  const advice = `this fleet publishes to ${known.join(', ')}`;
  return new PublishRefused(
    'channel',
    `${keys.directory} has no key for channel ${JSON.stringify(channel)}: ${advice}`,
  );
}

function definedOnly(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
