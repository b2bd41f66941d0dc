import type { InterfaceDump, PeerDump } from './dump.ts';
import type { PeerSetting } from './interface.ts';
import type { PlannedPeer } from './peer-plan.ts';
import { isAlive } from './session.ts';

/** What is remembered of a peer between two looks at the interface. */
export interface Trial {
  /** The candidate that is being tried, counted from 0. */
  readonly candidate: number;
  /** When it was set, milliseconds of any monotonic clock. */
  readonly since: number;
  /** Bytes that had been sent then. */
  readonly bytesOut: number;
}

export interface Difference {
  readonly remove: readonly string[];
  /** In the order in which they are to be set. */
  readonly set: readonly PeerSetting[];
  readonly trials: ReadonlyMap<string, Trial>;
  /** Peers whose sessions were not begun with yet. */
  readonly waiting: number;
}

export interface DifferenceOptions {
  /** Seconds for peers with a session, of this site and of others; 0 for none. */
  readonly keepalive: { readonly near: number; readonly far: number };
  /** Of the peers without a session, so many are begun with at once: a site whose power returns must not drown in handshakes. */
  readonly atOnce: number;
  /** Milliseconds of the clock of trials. */
  readonly now: number;
  /** Seconds since 1970. */
  readonly time: number;
}

/**
 * WireGuard begins a session when there is something to send, and a keepalive is something. Peers without one get this,
 * seconds: a node that comes back is reached at once, by those that still send to the session of before.
 */
const BEGIN_S = 25;
/** An endpoint that does not answer while something is sent to it makes room for the next after so long, milliseconds. */
const TRIAL_MS = 10_000;

/** What has to change for the interface to be as planned; pure. Peers that are right are not named. */
export function difference(
  dump: InterfaceDump,
  plan: readonly PlannedPeer[],
  before: ReadonlyMap<string, Trial>,
  { keepalive, atOnce, now, time }: DifferenceOptions,
): Difference {
  const planned = new Map(plan.map((peer) => [peer.publicKey, peer]));
  const present = new Map(dump.peers.map((peer) => [peer.publicKey, peer]));
  const remove = dump.peers.flatMap(({ publicKey }) => (planned.has(publicKey) ? [] : [publicKey]));
  const trials = new Map<string, Trial>();
  const set: PeerSetting[] = [];
  let begun = 0;
  let waiting = 0;
  for (const peer of plan) {
    const { publicKey, allowedIps } = peer;
    const found = present.get(publicKey);
    const alive = isAlive(found, time);
    const tried = before.get(publicKey);
    const mayBegin = tried !== undefined || begun < atOnce;
    if (!alive && !mayBegin && peer.endpoints.length > 0) waiting += 1;
    const trial = alive ? tried : mayBegin ? nextTrial(peer, found, tried, now) : undefined;
    if (trial !== undefined) trials.set(publicKey, trial);
    if (trial !== undefined && tried === undefined) begun += 1;
    const kept = peer.keepalive ?? (peer.far ? keepalive.far : keepalive.near);
    const wanted = alive || trial === undefined ? kept : kept || BEGIN_S;
    const moved = trial !== undefined && trial !== tried ? peer.endpoints[trial.candidate] : undefined;
    const setting: PeerSetting = {
      publicKey,
      ...(!isSame(found?.allowedIps, allowedIps) && { allowedIps }),
      ...(moved !== undefined && { endpoint: moved }),
      ...((found?.keepalive ?? 0) !== wanted && { keepalive: wanted }),
      ...(found === undefined && peer.presharedKey && { presharedKey: peer.presharedKey }),
    };
    if (Object.keys(setting).length > 1) set.push(setting);
  }
  // An address belongs to the peer that it was given to last: who loses one comes before who gains it.
  const gains = ({ publicKey, allowedIps = [] }: PeerSetting) =>
    allowedIps.length > (present.get(publicKey)?.allowedIps.length ?? 0) ? 1 : 0;
  return { remove, set: set.toSorted((a, b) => gains(a) - gains(b)), trials, waiting };
}

/** The endpoint to try now: the first, or the one after that which stayed silent while something was sent there. */
function nextTrial(
  { endpoints }: PlannedPeer,
  found: PeerDump | undefined,
  before: Trial | undefined,
  now: number,
): Trial | undefined {
  if (endpoints.length === 0) return undefined;
  const bytesOut = found?.bytesOut ?? 0;
  if (found === undefined || before === undefined || before.candidate >= endpoints.length) {
    return { candidate: 0, since: now, bytesOut };
  }
  if (now - before.since < TRIAL_MS || bytesOut === before.bytesOut) return before;
  return { candidate: (before.candidate + 1) % endpoints.length, since: now, bytesOut };
}

function isSame(one: readonly string[] | undefined, other: readonly string[]): boolean {
  return one !== undefined && one.length === other.length && one.every((each, index) => each === other[index]);
}
