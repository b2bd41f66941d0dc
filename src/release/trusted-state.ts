import { type Chain, type ChannelEvidence, readChain, readChannel } from './chain.ts';
import type { Documents } from './document.ts';
import { rootName } from './document.ts';
import type { Release } from './release.ts';
import { readRoot, Unauthentic } from './trust-root.ts';

/** What a node believes: the newest state that verified, and per channel the release that it may run. */
export interface TrustedState {
  readonly chain: Chain;
  /** Exactly the documents that verify; all that is stored and served. */
  readonly documents: Documents;
  readonly installed: ReadonlyMap<string, ChannelEvidence>;
  /** Per channel the newest release that this node has had complete: it goes on with that while a newer one arrives. */
  readonly held: ReadonlyMap<string, ChannelEvidence>;
  /** The newest `issued` ever trusted, milliseconds of the epoch; 0 before there is any. */
  readonly issued: number;
}

/** A release that this node may run. */
export interface VerifiedRelease {
  readonly channel: string;
  readonly version: number;
  /** Hexadecimal sha256 of the signed release document. */
  readonly digest: string;
  readonly release: Release;
  /** When the first of the metadata behind it expires, milliseconds of the epoch. */
  readonly expires: number;
  /** Its metadata is out of date: what runs goes on, nothing is newly installed. */
  readonly stale: boolean;
}

/**
 * The state after `documents`, which tuf-js has accepted as newer than `previous`. A channel whose new metadata has
 * expired keeps the release that it had. Throws `Unauthentic`, also when a channel's version goes back or is used twice.
 */
export function advance(
  previous: TrustedState | undefined,
  documents: Documents,
  anchor: Buffer,
  now: number,
): TrustedState {
  const chain = readChain(documents, anchor);
  const installed = new Map<string, ChannelEvidence>();
  const kept = [...chain.names];
  for (const [channel, name] of chain.channels) {
    const old = carriedOver(chain, documents, channel, previous?.installed.get(channel));
    const next = name !== undefined && documents.has(name) ? readChannel(chain, documents, channel, name) : undefined;
    if (next !== undefined) checkOrder(previous?.installed.get(channel), next);
    kept.push(...(next?.names ?? []));
    const usable = next !== undefined && (next.expires > now || next.digest === old?.digest) ? next : old;
    if (usable === undefined) continue;
    installed.set(channel, usable);
    kept.push(...usable.names);
  }
  const held = stillProven(chain, documents, previous?.held);
  return assemble({ chain, documents, anchor, installed, held, names: kept, before: previous?.issued ?? 0 });
}

/** The state in which this node has the installed release of `channel` complete. */
export function hold(state: TrustedState, channel: string): TrustedState {
  const evidence = state.installed.get(channel);
  return evidence === undefined ? state : { ...state, held: new Map([...state.held, [channel, evidence]]) };
}

/** What a store remembers: `installed` and `held` name per channel the metadata of a release. */
export interface Remembered {
  readonly documents: Documents;
  readonly installed: ReadonlyMap<string, string>;
  readonly held: ReadonlyMap<string, string>;
  readonly issued: number;
}

/** The state that a store remembers. Expiry does not matter here, only signatures. Throws `Unauthentic`. */
export function restore({ documents, installed, held, issued }: Remembered, anchor: Buffer): TrustedState {
  const chain = readChain(documents, anchor);
  const evidence = new Map<string, ChannelEvidence>();
  const kept = [...chain.names];
  for (const [channel, name] of chain.channels) {
    const own = installed.get(channel);
    if (own !== undefined) evidence.set(channel, readChannel(chain, documents, channel, own));
    if (name !== undefined && documents.has(name)) kept.push(...readChannel(chain, documents, channel, name).names);
    kept.push(...(evidence.get(channel)?.names ?? []));
  }
  const proven = new Map<string, ChannelEvidence>();
  for (const [channel, name] of held) {
    const found = chain.channels.has(channel) && documents.has(name) && proof(chain, documents, channel, name);
    if (found) proven.set(channel, found);
  }
  return assemble({ chain, documents, anchor, installed: evidence, held: proven, names: kept, before: issued });
}

export function releaseOf(state: TrustedState, channel: string, now: number): VerifiedRelease | undefined {
  return describe(state, channel, state.installed.get(channel), now);
}

/** The newest that this node has had complete; `stale` when there is a newer one. */
export function heldOf(state: TrustedState, channel: string, now: number): VerifiedRelease | undefined {
  return describe(state, channel, state.held.get(channel), now);
}

function describe(
  state: TrustedState,
  channel: string,
  evidence: ChannelEvidence | undefined,
  now: number,
): VerifiedRelease | undefined {
  if (evidence === undefined) return undefined;
  const { release, digest } = evidence;
  const expires = Math.min(evidence.expires, state.chain.expires);
  const superseded = state.chain.channels.get(channel) !== evidence.names[0];
  return { channel, version: release.version, digest, release, expires, stale: superseded || expires <= now };
}

interface Parts extends Pick<TrustedState, 'chain' | 'documents' | 'installed' | 'held'> {
  readonly anchor: Buffer;
  /** Of the documents that are kept, besides those that prove what is held. */
  readonly names: readonly string[];
  /** The newest `issued` so far. */
  readonly before: number;
}

function assemble({ chain, documents, anchor, installed, held, names, before }: Parts): TrustedState {
  const kept = new Map([[rootName(readRoot(anchor).signed.version), anchor]]);
  const proofs = [...held.values()].flatMap((evidence) => evidence.names);
  for (const name of [...names, ...proofs]) kept.set(name, documents.get(name) as Buffer);
  const issued = [...installed.values()].map(({ release }) => Date.parse(release.issued));
  return { chain, documents: kept, installed, held, issued: Math.max(before, ...issued) };
}

/** Those releases whose channels' keys are still the ones that signed them. */
function stillProven(
  chain: Chain,
  documents: Documents,
  held: ReadonlyMap<string, ChannelEvidence> | undefined,
): ReadonlyMap<string, ChannelEvidence> {
  const entries = [...(held ?? [])].flatMap(([channel, old]) => {
    const found = chain.channels.has(channel) ? carriedOver(chain, documents, channel, old) : undefined;
    return found === undefined ? [] : [[channel, found] as const];
  });
  return new Map(entries);
}

/** The release that ran so far, as long as its channel's keys are still those that signed it. */
function carriedOver(
  chain: Chain,
  documents: Documents,
  channel: string,
  old: ChannelEvidence | undefined,
): ChannelEvidence | undefined {
  if (old === undefined) return undefined;
  const found = proof(chain, documents, channel, old.names[0]);
  return found?.digest === old.digest ? found : undefined;
}

/** The release that `name` proves, or undefined when the channel's keys did not sign it. */
function proof(chain: Chain, documents: Documents, channel: string, name: string): ChannelEvidence | undefined {
  try {
    return readChannel(chain, documents, channel, name);
  } catch (error) {
    if (error instanceof Unauthentic) return undefined;
    throw error;
  }
}

function checkOrder(old: ChannelEvidence | undefined, next: ChannelEvidence): void {
  if (old === undefined) return;
  const [name] = next.names;
  const { version } = next.release;
  if (version < old.release.version) {
    throw new Unauthentic(name, `goes back from version ${old.release.version} to ${version}`);
  }
  if (version === old.release.version && next.digest !== old.digest) {
    throw new Unauthentic(name, `uses version ${version} for a second release`);
  }
}
