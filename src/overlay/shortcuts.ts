import type { InterfaceDump } from './dump.ts';
import type { PlannedPeer } from './peer-plan.ts';
import { isAlive } from './session.ts';

/** A member of another site that we exchange with, and that the plan has behind a gateway. */
export interface Companion {
  /** Base64. */
  readonly publicKey: string;
  /** In the overlay, without a prefix length. */
  readonly address: string;
  /** Where it may be reached, the likeliest first: what a gateway has seen of it, then what it says. None: not yet known. */
  readonly endpoints: readonly string[];
}

type Way =
  | { readonly state: 'trying'; readonly since: number; readonly failures: number }
  | { readonly state: 'open'; readonly since: number }
  | { readonly state: 'resting'; readonly until: number; readonly failures: number };

/** A session that does not begin within this time does not begin: a NAT between us gives each packet another port. Milliseconds. */
const TRIAL_MS = 25_000;
/** Then both ends try again so long after, twice as long each time, at most so long; milliseconds. */
const REST_MS = { first: 10 * 60_000, most: 60 * 60_000 };
/** A way that ended sooner than this was none, milliseconds. */
const LASTING_MS = 60_000;
/** After so many of those the gateway carries for as long as the longest rest. */
const MOST_BROKEN = 3;
/** Routers forget what is silent for half a minute (RFC 4787, REQ-5 wants two minutes), seconds. */
const KEEPALIVE_S = 20;
const MAX_WAYS = 128;
const MAX_BROKEN = 1024;

/**
 * Direct ways to members of other sites, besides the one through gateways; pure but for what it remembers. Both ends of
 * a connection see it stand, ask a gateway where the other is, and send WireGuard's handshakes there at about the same
 * time: each opens its own NAT for the other (RFC 5128, section 3.3). The peer has no address as long as there is no
 * session, so that nothing is sent into the dark; with the session, which both ends have or none has, it gets its own and
 * no more. The connection is the way's pulse: when it breaks, the peer is removed, and the gateway carries again.
 */
export class Shortcuts {
  readonly #ways = new Map<string, Way>();
  /** Of ways that broke soon: how often, and when last. */
  readonly #broken = new Map<string, { readonly times: number; readonly at: number }>();

  /** Somebody's handshake is awaited: look again soon. */
  get pending(): boolean {
    return [...this.#ways.values()].some(({ state }) => state === 'trying');
  }

  /**
   * The peers that there should be besides those of the plan.
   * @param now milliseconds of a monotonic clock
   * @param time seconds since 1970
   */
  look(
    companions: readonly Companion[],
    dump: InterfaceDump,
    { now, time }: { readonly now: number; readonly time: number },
  ): PlannedPeer[] {
    const met = new Set(companions.map(({ publicKey }) => publicKey));
    for (const [key, way] of this.#ways) if (!met.has(key)) this.#end(key, way, now);
    const present = new Map(dump.peers.map((peer) => [peer.publicKey, peer]));
    return companions.flatMap(({ publicKey, address, endpoints }) => {
      const alive = isAlive(present.get(publicKey), time);
      const way = this.#next(publicKey, { alive, now, known: endpoints.length > 0 });
      if (way === undefined || way.state === 'resting') return [];
      const allowedIps = way.state === 'open' ? [`${address}/128`] : [];
      return [{ publicKey, allowedIps, endpoints, far: true, keepalive: KEEPALIVE_S }];
    });
  }

  #next(
    key: string,
    facts: { readonly alive: boolean; readonly now: number; readonly known: boolean },
  ): Way | undefined {
    const way = this.#ways.get(key) ?? this.#begin(key, facts);
    if (way !== undefined) this.#ways.set(key, nextWay(way, facts));
    return this.#ways.get(key);
  }

  #begin(key: string, { now, known }: { readonly now: number; readonly known: boolean }): Way | undefined {
    const { times = 0, at = 0 } = this.#broken.get(key) ?? {};
    if (!known || this.#ways.size >= MAX_WAYS || (times >= MOST_BROKEN && now - at < REST_MS.most)) return undefined;
    return { state: 'trying', since: now, failures: 0 };
  }

  #end(key: string, way: Way, now: number): void {
    this.#ways.delete(key);
    if (way.state !== 'open') return;
    if (now - way.since > LASTING_MS) {
      this.#broken.delete(key);
      return;
    }
    if (this.#broken.size >= MAX_BROKEN) this.#broken.clear();
    this.#broken.set(key, { times: (this.#broken.get(key)?.times ?? 0) + 1, at: now });
  }
}

function nextWay(way: Way, { alive, now }: { readonly alive: boolean; readonly now: number }): Way {
  if (way.state === 'open') return alive ? way : rest(0, now);
  if (way.state === 'resting') return now < way.until ? way : { ...way, state: 'trying', since: now };
  if (alive) return { state: 'open', since: now };
  return now - way.since < TRIAL_MS ? way : rest(way.failures, now);
}

function rest(failures: number, now: number): Way {
  return {
    state: 'resting',
    until: now + Math.min(REST_MS.most, REST_MS.first * 2 ** failures),
    failures: failures + 1,
  };
}
