import type { Certificate } from '../fleet/certificate.ts';
import type { Members } from '../fleet/members.ts';
import type { Log } from '../observe/log.ts';
import type { InterfaceDump } from '../overlay/dump.ts';
import { openToAll } from '../overlay/endpoint-order.ts';
import type { PlannedPeer } from '../overlay/peer-plan.ts';
import { isAlive } from '../overlay/session.ts';
import { type Companion, Shortcuts } from '../overlay/shortcuts.ts';
import { type MemberQuestions, Whereabouts } from '../overlay/whereabouts.ts';

/** The swarm, as far as the overlay must know with whom this node exchanges. */
export interface Exchanging {
  readonly documents: MemberQuestions;
  /** Peer ids of all that are connected. */
  connected(): string[];
  readonly events: {
    on(event: 'peer:connect' | 'peer:disconnect', listener: (event: { readonly peerId: string }) => void): unknown;
  };
}

interface Deps {
  readonly membership: {
    readonly own: Certificate | undefined;
    readonly certified: { readonly members: Members } | undefined;
    /** Those that this node keeps connected to. */
    contacts(): readonly { readonly peerId: string }[];
  };
  readonly swarm: Exchanging;
  /** What `look` says may be another thing now. */
  readonly onNews: () => void;
  readonly log: Log;
  /** Milliseconds that never go back. @default performance.now */
  readonly elapsed?: () => number;
}

/** While handshakes are awaited, the interface is looked at this often, milliseconds. */
const SOON_MS = 500;
/** A gateway that we were not connected to for so long is down, and another one carries; milliseconds. */
const DOWN_MS = 15_000;
/** Of several that are down, each is tried for so long: its endpoints one after the other. Milliseconds. */
const TURN_MS = 30_000;
/** One that WireGuard has met in its turn keeps it for so long: the swarm connects to it meanwhile, or nobody is there. Seconds. */
const HEARD_S = 60;

/** What the swarm's connections tell the overlay: whom to meet directly, and which gateways are there. */
export class DirectWays implements Disposable {
  readonly #deps: Deps;
  readonly #shortcuts = new Shortcuts();
  readonly #whereabouts: Whereabouts;
  readonly #elapsed: () => number;
  /** Since when we are not connected to a gateway, by peer id: milliseconds of the monotonic clock, and seconds since 1970. */
  readonly #lost = new Map<string, { readonly since: number; readonly at: number }>();
  #soon: NodeJS.Timeout | undefined;
  /** What the interface was like when it was last looked at. */
  #dump: InterfaceDump | undefined;

  constructor(deps: Deps) {
    this.#deps = deps;
    this.#elapsed = deps.elapsed ?? (() => performance.now());
    const { swarm, onNews, log } = deps;
    this.#whereabouts = new Whereabouts({
      network: swarm.documents,
      seen: (peerId, from) => this.#seen(peerId, from),
      isGateway: (peerId) => this.#isGateway(peerId),
      onNews,
      log,
    });
    for (const event of ['peer:connect', 'peer:disconnect'] as const) swarm.events.on(event, onNews);
  }

  /**
   * The peers that there should be besides those of the plan.
   * @param around networks that this node is on
   */
  look(plan: readonly PlannedPeer[], around: readonly string[], dump: InterfaceDump): PlannedPeer[] {
    this.#dump = dump;
    this.#watchGateways();
    const clocks = { now: this.#elapsed(), time: Date.now() / 1000 };
    const peers = this.#shortcuts.look(this.#companions(plan, around), dump, clocks);
    clearTimeout(this.#soon);
    if (this.#shortcuts.pending) this.#soon = setTimeout(this.#deps.onNews, SOON_MS).unref();
    return peers;
  }

  /**
   * How far a gateway is from carrying: 0 when it is there. Of those that are not, each in turn comes first for a while:
   * the others may be behind the one that is gone.
   */
  rankOf(peerId: string): number {
    const down = [...this.#lost.keys()].filter((each) => this.#isDown(each)).toSorted();
    const index = down.indexOf(peerId);
    if (index < 0) return 0;
    const turn = Math.floor(this.#elapsed() / TURN_MS) % down.length;
    return 1 + ((index + down.length - turn) % down.length);
  }

  /** Neither connected to for a while, nor has WireGuard heard from it since. */
  #isDown(peerId: string): boolean {
    const lost = this.#lost.get(peerId);
    if (lost === undefined || this.#elapsed() - lost.since <= DOWN_MS) return false;
    const key = this.#members?.member(peerId)?.wireguardKey;
    const peer = this.#dump?.peers.find(({ publicKey }) => publicKey === key);
    const heardAt = peer?.handshakeAt ?? 0;
    return heardAt <= lost.at || Date.now() / 1000 - heardAt > HEARD_S;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#soon);
    this.#whereabouts[Symbol.dispose]();
  }

  get #members(): Members | undefined {
    return this.#deps.membership.certified?.members;
  }

  #isGateway(peerId: string): boolean {
    return this.#members?.member(peerId)?.roles.includes('gateway') === true;
  }

  /** Members of other sites that we exchange with, and that the plan has behind others. */
  #companions(plan: readonly PlannedPeer[], around: readonly string[]): Companion[] {
    const known = new Set(plan.map(({ publicKey }) => publicKey));
    return this.#deps.swarm.connected().flatMap((peerId) => {
      const member = this.#members?.member(peerId);
      if (member === undefined || known.has(member.wireguardKey)) return [];
      if (member.site === this.#deps.membership.own?.site) return [];
      const said = openToAll(this.#members?.binding(peerId)?.endpoints ?? [], around);
      const endpoints = [...new Set([...this.#whereabouts.of(peerId), ...said])];
      return [{ publicKey: member.wireguardKey, address: member.address, endpoints }];
    });
  }

  /** Where a packet of the member came from that was authenticated a moment ago; what its own site sees is of no use. */
  #seen(peerId: string, from: string): string | undefined {
    const [asked, asking] = [this.#members?.member(peerId), this.#members?.member(from)];
    if (asked === undefined || asking === undefined || asked.site === asking.site) return undefined;
    if (asked.site === this.#deps.membership.own?.site) return undefined;
    const peer = this.#dump?.peers.find(({ publicKey }) => publicKey === asked.wireguardKey);
    return isAlive(peer) ? peer?.endpoint : undefined;
  }

  #watchGateways(): void {
    const { membership, swarm } = this.#deps;
    const connected = new Set(swarm.connected());
    // To others there is no connection in any case, which says nothing of them.
    const gateways = new Set(membership.contacts().flatMap(({ peerId }) => (this.#isGateway(peerId) ? [peerId] : [])));
    for (const peerId of this.#lost.keys()) if (!gateways.has(peerId)) this.#lost.delete(peerId);
    for (const peerId of gateways) {
      if (connected.has(peerId)) this.#lost.delete(peerId);
      else if (!this.#lost.has(peerId))
        this.#lost.set(peerId, { since: this.#elapsed(), at: Math.floor(Date.now() / 1000) });
    }
  }
}
