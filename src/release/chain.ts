import { createHash } from 'node:crypto';
import {
  Metadata,
  MetadataKind,
  type MetaFile,
  type Root,
  type Snapshot,
  type Targets,
  type Timestamp,
} from '@tufjs/models';
import {
  DOCUMENT_BYTES,
  type Documents,
  MAX_CHANNELS,
  releaseName,
  releasePath,
  rootName,
  snapshotName,
  TIMESTAMP,
  targetsName,
} from './document.ts';
import { channelName, parseRelease, type Release } from './release.ts';
import { ticketText, verifyTicket } from './ticket.ts';
import { type FleetFacts, fleetOf, readRoot, Unauthentic } from './trust-root.ts';

/**
 * Metadata whose every link is signed by whom its parent names, whatever the time: how a node reads its own store (a
 * clock must not take a running release away), and the second pair of eyes on what tuf-js accepted.
 */
export interface Chain {
  readonly facts: FleetFacts;
  readonly root: Metadata<Root>;
  readonly timestamp: Metadata<Timestamp>;
  readonly snapshot: Metadata<Snapshot>;
  readonly targets: Metadata<Targets>;
  /** Names of the documents above, every root among them. */
  readonly names: readonly string[];
  /** When the first of them expires, milliseconds of the epoch. */
  readonly expires: number;
  /** Delegated channels in order, with the name of the document that the snapshot pins for each that has one. */
  readonly channels: ReadonlyMap<string, string | undefined>;
  /** What the fleet says of its membership, whatever that means; undefined where it says nothing. */
  readonly trust: unknown;
}

/** A channel's release with the two documents that prove it. */
export interface ChannelEvidence {
  readonly release: Release;
  /** Hexadecimal sha256 of the release document. */
  readonly digest: string;
  readonly names: readonly [targets: string, release: string];
  /** When the channel's own metadata expires, milliseconds of the epoch. */
  readonly expires: number;
}

/** Throws `Unauthentic`. `anchor` is the operator's root; the chain of `N.root.json` is followed from it. */
export function readChain(documents: Documents, anchor: Buffer): Chain {
  const roots = walkRoots(documents, anchor);
  const root = (roots.at(-1) ?? readRoot(anchor)) as Metadata<Root>;
  const timestamp = parse(MetadataKind.Timestamp, TIMESTAMP, need(documents, TIMESTAMP, DOCUMENT_BYTES.timestamp));
  verify(root, 'timestamp', timestamp, TIMESTAMP);

  const { snapshotMeta } = timestamp.signed;
  const snapshotFile = snapshotName(snapshotMeta.version);
  const snapshot = parse(MetadataKind.Snapshot, snapshotFile, pinned(documents, snapshotFile, snapshotMeta));
  sameVersion(snapshotFile, snapshot.signed.version, snapshotMeta.version);
  verify(root, 'snapshot', snapshot, snapshotFile);

  const targetsMeta = pin(snapshot, 'targets');
  if (targetsMeta === undefined) throw new Unauthentic(snapshotFile, 'names no targets');
  const targetsFile = targetsName('targets', targetsMeta.version);
  const targets = parse(MetadataKind.Targets, targetsFile, pinned(documents, targetsFile, targetsMeta));
  sameVersion(targetsFile, targets.signed.version, targetsMeta.version);
  verify(root, 'targets', targets, targetsFile);

  const expiries = [root, timestamp, snapshot, targets].map(({ signed }) => Date.parse(signed.expires));
  return {
    facts: fleetOf(root),
    root,
    timestamp,
    snapshot,
    targets,
    names: [...roots.map(({ signed }) => rootName(signed.version)), TIMESTAMP, snapshotFile, targetsFile],
    expires: Math.min(...expiries),
    channels: readDelegations(targets.signed, targetsFile, snapshot),
    trust: trustOf(targets.signed),
  };
}

/** What a channel's metadata names, before the release itself is there. */
interface ChannelTarget {
  readonly digest: string;
  /** Bytes. */
  readonly length: number;
  /** When the channel's metadata expires, milliseconds of the epoch. */
  readonly expires: number;
}

/** Throws `Unauthentic` unless the channel's own keys signed `name`, and the snapshot pins those bytes if it pins them. */
export function readChannelTarget(chain: Chain, documents: Documents, channel: string, name: string): ChannelTarget {
  const bytes = need(documents, name, DOCUMENT_BYTES.targets);
  const meta = pin(chain.snapshot, channel);
  if (meta !== undefined && name === chain.channels.get(channel)) checkPin(name, bytes, meta);
  const metadata = parse(MetadataKind.Targets, name, bytes);
  sameVersion(name, metadata.signed.version, Number.parseInt(name, 10));
  verify(chain.targets, channel, metadata, name);
  if (metadata.signed.delegations !== undefined) throw new Unauthentic(name, 'delegates further');
  const target = metadata.signed.targets[releasePath(channel)];
  const digest = target?.hashes['sha256'];
  if (target === undefined || digest === undefined) throw new Unauthentic(name, `has no ${releasePath(channel)}`);
  return { digest, length: target.length, expires: Date.parse(metadata.signed.expires) };
}

/**
 * What `channel` ships according to its metadata `name` (the one that the snapshot pins, or an older one that this node
 * verified in its day). Throws `Unauthentic`.
 */
export function readChannel(chain: Chain, documents: Documents, channel: string, name: string): ChannelEvidence {
  const { digest, length, expires } = readChannelTarget(chain, documents, channel, name);
  const document = releaseName(channel, digest);
  const text = need(documents, document, length);
  if (text.length !== length || sha256(text) !== digest) throw new Unauthentic(document, 'has other bytes');
  const release = readRelease(document, text, chain.facts);
  if (release.channel !== channel) throw new Unauthentic(document, `is of channel ${release.channel}`);
  // The newest `issued` is the node's time floor, so that no release may push it past its own end.
  if (Date.parse(release.issued) >= expires) throw new Unauthentic(document, 'was issued after it expires');
  return { release, digest, names: [name, document], expires };
}

/** The part of the top-level targets that is not TUF's: the fleet's trust list, of which this room knows no more. */
export function trustOf(targets: Targets): unknown {
  const own = targets.unrecognizedFields['bootmesh'] as { readonly trust?: unknown } | null | undefined;
  return own?.trust;
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function walkRoots(documents: Documents, anchor: Buffer): Metadata<Root>[] {
  let root = readRoot(anchor);
  const roots: Metadata<Root>[] = [];
  const own = documents.get(rootName(root.signed.version));
  if (own?.equals(anchor)) roots.push(root);
  for (;;) {
    const name = rootName(root.signed.version + 1);
    const bytes = documents.get(name);
    if (bytes === undefined) return roots;
    const next = readRoot(bytes, name);
    verify(root, 'root', next, name);
    sameVersion(name, next.signed.version, root.signed.version + 1);
    roots.push(next);
    root = next;
  }
}

function readDelegations(
  targets: Targets,
  name: string,
  snapshot: Metadata<Snapshot>,
): Map<string, string | undefined> {
  if (targets.delegations?.succinctRoles !== undefined) throw new Unauthentic(name, 'delegates to hash bins');
  const roles = Object.values(targets.delegations?.roles ?? {});
  if (roles.length > MAX_CHANNELS) throw new Unauthentic(name, `delegates to more than ${MAX_CHANNELS} channels`);
  const channels = new Map<string, string | undefined>();
  for (const role of roles) {
    const path = releasePath(role.name);
    // Exactly one terminating delegation leads to a release, so there is no second way around a channel's keys.
    const narrow = role.terminating && role.paths?.length === 1 && role.paths[0] === path;
    if (!narrow || !channelName.safeParse(role.name).success) {
      throw new Unauthentic(name, `delegates ${JSON.stringify(role.name)} other than to its one release`);
    }
    const meta = pin(snapshot, role.name);
    channels.set(role.name, meta && targetsName(role.name, meta.version));
  }
  return channels;
}

function readRelease(document: string, text: Buffer, { fleet, ticketKey }: FleetFacts): Release {
  try {
    const release = parseRelease(text);
    if (release.ticket !== undefined) {
      verifyTicket(release.ticket.text, release.ticket.signature, ticketKey);
      if (release.ticket.text !== ticketText(fleet, release)) throw new Error('its ticket is of another release');
    }
    return release;
  } catch (cause) {
    throw new Unauthentic(document, (cause as Error).message, { cause });
  }
}

function parse(kind: MetadataKind.Timestamp, name: string, bytes: Buffer): Metadata<Timestamp>;
function parse(kind: MetadataKind.Snapshot, name: string, bytes: Buffer): Metadata<Snapshot>;
function parse(kind: MetadataKind.Targets, name: string, bytes: Buffer): Metadata<Targets>;
function parse(kind: MetadataKind, name: string, bytes: Buffer): Metadata<Timestamp | Snapshot | Targets> {
  try {
    const json = JSON.parse(bytes.toString('utf8'));
    if (kind === MetadataKind.Timestamp) return Metadata.fromJSON(kind, json);
    return kind === MetadataKind.Snapshot
      ? Metadata.fromJSON(kind, json)
      : Metadata.fromJSON(MetadataKind.Targets, json);
  } catch (cause) {
    throw new Unauthentic(name, (cause as Error).message, { cause });
  }
}

function verify(
  parent: Metadata<Root | Targets>,
  role: string,
  child: Metadata<Root | Timestamp | Snapshot | Targets>,
  name: string,
): void {
  try {
    parent.verifyDelegate(role, child);
  } catch (cause) {
    throw new Unauthentic(name, (cause as Error).message, { cause });
  }
}

function pin(snapshot: Metadata<Snapshot>, role: string): MetaFile | undefined {
  return Object.hasOwn(snapshot.signed.meta, `${role}.json`) ? snapshot.signed.meta[`${role}.json`] : undefined;
}

function pinned(documents: Documents, name: string, meta: MetaFile): Buffer {
  const bytes = need(documents, name, Number.MAX_SAFE_INTEGER);
  checkPin(name, bytes, meta);
  return bytes;
}

/** TUF lets a snapshot name versions alone; ours names bytes, or a holder of old keys could swap one for another. */
function checkPin(name: string, bytes: Buffer, meta: MetaFile): void {
  if (meta.length === undefined || meta.hashes?.['sha256'] === undefined) {
    throw new Unauthentic(name, 'is not pinned by length and sha256');
  }
  try {
    meta.verify(bytes);
  } catch (cause) {
    throw new Unauthentic(name, (cause as Error).message, { cause });
  }
}

function need(documents: Documents, name: string, maxBytes: number): Buffer {
  const bytes = documents.get(name);
  if (bytes === undefined) throw new Unauthentic(name, 'is missing');
  if (bytes.length > maxBytes) throw new Unauthentic(name, `has more than ${maxBytes} bytes`);
  return bytes;
}

function sameVersion(name: string, found: number, expected: number): void {
  if (found !== expected || !Number.isSafeInteger(found) || found < 1) {
    throw new Unauthentic(name, `has version ${found} where ${expected} belongs`);
  }
}
