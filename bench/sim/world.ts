import { ALONE, type Crossing, type Meeting } from './crossing.ts';
import { Digest } from './digest.ts';
import type { Event } from './event-queue.ts';
import type { Link, Transfer } from './link.ts';
import { NETWORK_EVENTS, Network } from './network.ts';
import { type Random, seededRandom, waiting } from './random.ts';
import type { Scenario } from './scenario.ts';
import { Timeline } from './timeline.ts';
import { layOut, strangers, type Topology } from './topology.ts';

/** A node's part in the world. Whatever it is told has travelled already. Messages are objects that nobody changes. */
export interface Member {
  linked(peer: number, link: Link): void;
  unlinked(peer: number): void;
  heard(peer: number, message: object): void;
  /** What it said to its neighbours reaches them now. */
  spoke(message: object): void;
  /** A part of a chunk came in. */
  progressed(transfer: Transfer): void;
  /** A chunk came in whole. */
  arrived(transfer: Transfer): void;
  /** A chunk has left its link towards the network, which is free now. */
  left(transfer: Transfer): void;
  /** A chunk that it sent over the link has come in at its receiver. */
  landed(peer: number, link: Link): void;
  /** A time that it asked for has come. */
  woken(what: number): void;
  /** It is gone, with everything but its store… */
  died(): void;
  /** …and back. */
  revived(): void;
}

const EVENTS = {
  ...NETWORK_EVENTS,
  message: 6,
  spoken: 7,
  woken: 8,
  link: 9,
  unlink: 10,
  death: 11,
  revival: 12,
  landed: 13,
  ban: 14,
} as const;

/** A node that comes back dials everybody it knew within this long, as src/swarm/dialer.ts does. */
const DIAL_MS = [50, 250] as const;
/** Round trips from a dial to a link that can be used: TCP, Noise, Yamux, identify, hello. */
const DIAL_TRIPS = 4;
/** Until a site that lost a gateway has another node with links to other sites. */
const REPLACE_MS = 1_000;

interface Letter {
  readonly link: Link;
  readonly message: object;
}

/**
 * Time, the network, and who is up and linked to whom. It decides nothing that an agent's core decides. With several
 * threads each has a world: who is up and linked is the same in all of them, members and their chunks are in one.
 */
export class World {
  readonly scenario: Scenario;
  readonly topology: Topology;
  readonly network: Network;
  /** Of what concerns all, and is the same in every thread. */
  readonly random: Random;
  /** Of what happened at each place, and of what happened between windows. */
  readonly digests: readonly Digest[];
  readonly alive: Uint8Array;
  readonly life: Int32Array;
  /** Milliseconds since the start. */
  now = 0;
  events = 0;
  deaths = 0;
  /** Start of the last window. */
  endedMs = 0;
  readonly #timeline: Timeline;
  readonly #meeting: Meeting;
  /** Chance of each place. */
  readonly #chance: readonly Random[];
  readonly #links: Map<number, Link>[];
  /** Of those, the neighbours. */
  readonly #near: number[][];
  readonly #contacts: Set<number>[];
  readonly #banned = new Set<number>();
  #members: readonly (Member | undefined)[] = [];

  constructor(scenario: Scenario, meeting: Meeting = ALONE) {
    this.scenario = scenario;
    this.#meeting = meeting;
    const places = scenario.sites + 1;
    this.#chance = Array.from({ length: places }, (_, place) => seededRandom(scenario.seed * 65_537 + place + 1));
    this.digests = Array.from({ length: places + 1 }, () => new Digest());
    this.random = seededRandom(scenario.seed);
    this.topology = layOut(scenario, this.random);
    const nodes = scenario.nodes + 1;
    this.alive = new Uint8Array(nodes).fill(1);
    this.life = new Int32Array(nodes);
    this.#links = Array.from({ length: nodes }, () => new Map());
    this.#near = Array.from({ length: nodes }, () => []);
    this.#contacts = Array.from({ length: nodes }, () => new Set());
    const rateOf = new Float64Array(nodes).fill(scenario.nodeRate);
    rateOf[this.topology.origin] = scenario.originRate;
    this.#timeline = new Timeline({ places, lookaheadMs: scenario.farDelayMs, meeting });
    this.network = new Network(this.#timeline, scenario, { placeOf: this.topology.placeOf, rateOf });
  }

  /** The node lives in this thread. */
  owns(node: number): boolean {
    return this.#meeting.owns(this.#placeOf(node));
  }

  /** This thread has the digest of the place. */
  tells(place: number): boolean {
    return place > this.scenario.sites ? this.#meeting.first : this.#meeting.owns(place);
  }

  /** Chance for what the node decides. */
  randomOf(node: number): Random {
    return this.#chance[this.#placeOf(node)] as Random;
  }

  /** Links everybody as the topology has it. Members of other threads are undefined. */
  open(members: readonly (Member | undefined)[]): void {
    this.#members = members;
    for (const [a, b] of this.topology.pairs) this.#meet(a, b);
    for (let node = 0; node < this.scenario.nodes; node += 1) this.#scheduleDeath(node);
  }

  /**
   * Lets some time pass. False when nothing happens any more, or all that is awaited has, or the scenario's time is over.
   *
   * @param done what has happened in this thread
   * @param awaited what may happen in all threads
   */
  advance(done: number, awaited: number): boolean {
    const met = this.#timeline.meet(done);
    if (met.done >= awaited || met.next > this.scenario.limitMs) return false;
    this.endedMs = this.#timeline.advance(met.next, this.#happens, this.#happensBetween);
    return true;
  }

  links(node: number): ReadonlyMap<number, Link> {
    return this.#links[node] as Map<number, Link>;
  }

  /** Says `message` to one peer. */
  send(from: number, link: Link, message: object): void {
    const to = link.a === from ? link.b : link.a;
    const time = this.now + this.#messageDelay(link.near);
    const value: Letter = { link, message };
    if (link.near) this.#queueOf(to).push(time, EVENTS.message, to, from, 0, value);
    else this.#cross(from, this.#placeOf(to), { time, kind: EVENTS.message, a: to, b: from, value });
  }

  /** Says `message` to all peers of its site, or to all others. */
  speak(from: number, near: boolean, message: object): void {
    if (near) {
      const at = this.now + this.#messageDelay(true);
      this.#queueOf(from).push(at, EVENTS.spoken, from, 0, this.life[from], message);
    } else for (const link of this.links(from).values()) if (!link.near) this.send(from, link, message);
  }

  /** `woken(what)` follows at that time, unless the node dies before. */
  wake(node: number, what: number, at: number): void {
    this.#queueOf(node).push(at, EVENTS.woken, node, what, this.life[node]);
  }

  /** `node` will have nothing to do with `peer` any more. */
  ban(node: number, peer: number): void {
    if (this.network.near(node, peer)) this.#sever(node, peer);
    else this.#cross(node, undefined, { time: this.now, kind: EVENTS.ban, a: node, b: peer, value: undefined });
  }

  #sever(node: number, peer: number): void {
    this.#banned.add(pairKey(node, peer));
    const link = this.#links[node]?.get(peer);
    if (link) this.#cut(link, node, this.#messageDelay(link.near));
  }

  readonly #happens = (event: Event, place: number): void => {
    this.now = event.time;
    this.#count(event, place);
    const { kind, a, b, c, value } = event;
    if (kind === EVENTS.reached) this.#reached(value as Transfer, a);
    else if (kind <= EVENTS.arrived) this.#carry(kind, a);
    else this.#happen(kind, a, b, c, value);
  };

  readonly #happensBetween = (event: Event, now: number): void => {
    this.now = now;
    const { kind, a, b, value } = event;
    // Who bans a neighbour tells no other thread.
    if (kind !== EVENTS.unlink && this.#meeting.first) this.#count(event, this.digests.length - 1);
    if (kind === EVENTS.link) this.#meet(a, b);
    else if (kind === EVENTS.unlink) this.#drop(a, b, value as Link);
    else if (kind === EVENTS.ban) this.#sever(a, b);
    else if (kind === EVENTS.death) this.#die(a);
    else this.#revive(a);
  };

  #count({ time, kind, a, b }: Event, place: number): void {
    this.events += 1;
    // A transfer's number is what this thread calls it.
    const { sent, entered, arrived } = EVENTS;
    const called = kind === sent || kind === entered || kind === arrived;
    this.digests[place]?.add(time, kind, called ? this.network.transfer(a).name : a, b);
  }

  #placeOf(node: number): number {
    return this.topology.placeOf[node] as number;
  }

  #queueOf(node: number) {
    return this.#timeline.at(this.#placeOf(node));
  }

  #cross(from: number, to: number | undefined, event: Omit<Crossing, 'from' | 'to'>): void {
    this.#timeline.cross({ from: this.#placeOf(from), to, ...event });
  }

  /** The link as this thread knows it; undefined when it is cut. What comes from another thread has a copy of it. */
  #present({ a, b, bornMs }: Link): Link | undefined {
    const link = this.#links[a]?.get(b) ?? this.#links[b]?.get(a);
    return link?.bornMs === bornMs && link.up ? link : undefined;
  }

  #messageDelay(near: boolean): number {
    const { nearDelayMs, farDelayMs, messageMs } = this.scenario;
    return (near ? nearDelayMs : farDelayMs) + messageMs;
  }

  #member(node: number): Member {
    return this.#members[node] as Member;
  }

  #reached(transfer: Transfer, bytes: number): void {
    const link = this.#present(transfer.link);
    if (link) this.network.reached(link === transfer.link ? transfer : { ...transfer, link }, bytes, this.now);
  }

  #carry(kind: number, number: number): void {
    const { network } = this;
    if (kind === EVENTS.sent) {
      const transfer = network.transfer(number);
      network.sent(number, this.now, transfer.life !== this.life[transfer.from]);
      if (this.alive[transfer.from]) this.#member(transfer.from).left(transfer);
    } else if (kind === EVENTS.piped) {
      const transfer = network.piped(number, this.now);
      if (transfer?.link.up) this.#member(transfer.to).progressed(transfer);
    } else if (kind === EVENTS.entered) network.entered(number, this.now);
    else {
      const transfer = network.arrived(number);
      const { from, to, link } = transfer;
      if (!link.up) return;
      if (link.near) this.#member(from).landed(to, link);
      else {
        const time = this.now + this.scenario.farDelayMs;
        this.#cross(to, this.#placeOf(from), { time, kind: EVENTS.landed, a: from, b: to, value: link });
      }
      this.#member(to).arrived(transfer);
    }
  }

  #happen(kind: number, a: number, b: number, c: number, value: unknown): void {
    switch (kind) {
      case EVENTS.message: {
        const { link, message } = value as Letter;
        if (link.near ? link.up : this.#present(link)) this.#member(a).heard(b, message);
        return;
      }
      case EVENTS.spoken: {
        if (c !== this.life[a]) return;
        this.#member(a).spoke(value as object);
        for (const peer of this.#near[a] ?? []) this.#member(peer).heard(a, value as object);
        return;
      }
      case EVENTS.woken:
        if (c === this.life[a]) this.#member(a).woken(b);
        return;
      case EVENTS.landed: {
        const link = this.#present(value as Link);
        if (link) this.#member(a).landed(b, link);
      }
    }
  }

  #meet(a: number, b: number): void {
    if (this.#banned.has(pairKey(a, b))) return;
    for (const [own, other] of [
      [a, b],
      [b, a],
    ] as const)
      this.#contacts[own]?.add(other);
    if (!this.alive[a] || !this.alive[b] || this.#links[a]?.get(b)?.up) return;
    // An end that has not noticed yet that the other one died learns it from the other one's return.
    for (const [own, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const stale = this.#links[own]?.get(other);
      if (stale) this.#drop(own, other, stale);
    }
    const link: Link = { a, b, near: this.network.near(a, b), bornMs: this.now, up: true };
    this.#links[a]?.set(b, link);
    this.#links[b]?.set(a, link);
    if (link.near) {
      this.#near[a]?.push(b);
      this.#near[b]?.push(a);
    }
    this.#members[a]?.linked(b, link);
    this.#members[b]?.linked(a, link);
  }

  /** `node` knows at once that the link is gone, the other end `after` milliseconds later. */
  #cut(link: Link, node: number, after: number): void {
    const other = link.a === node ? link.b : link.a;
    link.up = false;
    this.#drop(node, other, link);
    this.#timeline.between.push(this.now + after, EVENTS.unlink, other, node, 0, link);
  }

  #drop(node: number, peer: number, link: Link): void {
    if (this.#links[node]?.get(peer) !== link) return;
    this.#links[node].delete(peer);
    if (link.near) this.#near[node] = (this.#near[node] ?? []).filter((one) => one !== peer);
    if (this.alive[node]) this.#members[node]?.unlinked(peer);
  }

  #scheduleDeath(node: number): void {
    const at = this.now + waiting(this.scenario.churn / 60_000, this.random);
    if (Number.isFinite(at)) this.#timeline.between.push(at, EVENTS.death, node);
  }

  /** Half of the deaths are noticed at once (a killed process), the others by silence (a cable, a power cut). */
  #die(node: number): void {
    const { unnoticedMs, downMs } = this.scenario;
    this.deaths += 1;
    this.alive[node] = 0;
    this.life[node] = (this.life[node] as number) + 1;
    this.#members[node]?.died();
    const silent = this.random() < 0.5;
    for (const link of [...this.links(node).values()])
      this.#cut(link, node, silent ? unnoticedMs : this.#messageDelay(link.near));
    this.#timeline.between.push(this.now + between(downMs, this.random), EVENTS.revival, node);
    this.#replaceGateway(node);
  }

  #revive(node: number): void {
    this.alive[node] = 1;
    this.#members[node]?.revived();
    for (const peer of this.#contacts[node] ?? []) this.#dial(node, peer, between(DIAL_MS, this.random));
    this.#scheduleDeath(node);
  }

  #dial(node: number, peer: number, wait: number): void {
    const trips = DIAL_TRIPS * 2 * this.#messageDelay(this.network.near(node, peer));
    this.#timeline.between.push(this.now + wait + trips, EVENTS.link, node, peer);
  }

  /** Stands for the dialers of the site's other nodes, each of which knows members of other sites. */
  #replaceGateway(node: number): void {
    const { gateways, members, origin } = this.topology;
    const site = this.#placeOf(node);
    if (!gateways[site]?.includes(node)) return;
    const candidates = (members[site] ?? []).filter((one) => this.alive[one] && !gateways[site]?.includes(one));
    const next = candidates[Math.floor(this.random() * candidates.length)];
    if (next === undefined) return;
    const knewOrigin = this.#contacts[node]?.has(origin) === true;
    const peers = [...(gateways[site] ?? []), ...strangers(gateways, site, this.scenario.farLinks, this.random)];
    for (const peer of knewOrigin ? [origin, ...peers] : peers) this.#dial(next, peer, REPLACE_MS);
  }
}

function between([least, most]: readonly [number, number], random: Random): number {
  return least + (most - least) * random();
}

function pairKey(a: number, b: number): number {
  return Math.min(a, b) * 2 ** 26 + Math.max(a, b);
}
