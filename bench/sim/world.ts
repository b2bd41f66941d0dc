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
  /** A chunk that it sent has come in at its receiver. */
  landed(transfer: Transfer): void;
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

/** Time, the network, and who is up and linked to whom. It decides nothing that an agent's core decides. */
export class World {
  readonly scenario: Scenario;
  readonly topology: Topology;
  readonly network: Network;
  readonly random: Random;
  readonly digest = new Digest();
  readonly alive: Uint8Array;
  readonly life: Int32Array;
  /** Milliseconds since the start. */
  now = 0;
  events = 0;
  deaths = 0;
  readonly #timeline: Timeline;
  readonly #links: Map<number, Link>[];
  /** Of those, the neighbours. */
  readonly #near: number[][];
  readonly #contacts: Set<number>[];
  readonly #banned = new Set<number>();
  #members: readonly Member[] = [];

  constructor(scenario: Scenario) {
    this.scenario = scenario;
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
    this.#timeline = new Timeline(scenario.sites + 1, scenario.farDelayMs);
    this.network = new Network(this.#timeline, scenario, { siteOf: this.topology.siteOf, rateOf });
  }

  /** Links everybody as the topology has it. */
  open(members: readonly Member[]): void {
    this.#members = members;
    for (const [a, b] of this.topology.pairs) this.#meet(a, b);
    for (let node = 0; node < this.scenario.nodes; node += 1) this.#scheduleDeath(node);
  }

  /** Lets some time pass; false when nothing happens any more, or the scenario's time is over. */
  advance(): boolean {
    const at = this.#timeline.advance(this.#happens, this.#happensBetween);
    return at !== undefined && at <= this.scenario.limitMs;
  }

  links(node: number): ReadonlyMap<number, Link> {
    return this.#links[node] as Map<number, Link>;
  }

  /** Says `message` to one peer. */
  send(from: number, link: Link, message: object): void {
    const to = link.a === from ? link.b : link.a;
    const letter: Letter = { link, message };
    this.#queueOf(to).push(this.now + this.#messageDelay(link.near), EVENTS.message, to, from, 0, letter);
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
    this.#banned.add(pairKey(node, peer));
    const link = this.#links[node]?.get(peer);
    if (link) this.#cut(link, node, this.#messageDelay(link.near));
  }

  readonly #happens = (event: Event): void => {
    this.now = event.time;
    this.#count(event);
    const { kind, a, b, c, value } = event;
    if (kind <= EVENTS.arrived) this.#carry(kind, a, b);
    else this.#happen(kind, a, b, c, value);
  };

  readonly #happensBetween = (event: Event, now: number): void => {
    this.now = now;
    this.#count(event);
    const { kind, a, b, value } = event;
    if (kind === EVENTS.link) this.#meet(a, b);
    else if (kind === EVENTS.unlink) this.#drop(a, b, value as Link);
    else if (kind === EVENTS.death) this.#die(a);
    else this.#revive(a);
  };

  #count({ time, kind, a, b }: Event): void {
    this.events += 1;
    this.digest.add(time, kind, a, b);
  }

  #queueOf(node: number) {
    return this.#timeline.at(this.topology.siteOf[node] as number);
  }

  #messageDelay(near: boolean): number {
    const { nearDelayMs, farDelayMs, messageMs } = this.scenario;
    return (near ? nearDelayMs : farDelayMs) + messageMs;
  }

  #member(node: number): Member {
    return this.#members[node] as Member;
  }

  #carry(kind: number, number: number, bytes: number): void {
    const { network } = this;
    if (kind === EVENTS.sent) {
      const transfer = network.transfer(number);
      network.sent(number, this.now, transfer.life !== this.life[transfer.from]);
      if (this.alive[transfer.from]) this.#member(transfer.from).left(transfer);
    } else if (kind === EVENTS.piped) {
      const transfer = network.piped(number, this.now);
      if (transfer?.link.up) this.#member(transfer.to).progressed(transfer);
    } else if (kind === EVENTS.reached) network.reached(number, bytes, this.now);
    else if (kind === EVENTS.entered) network.entered(number, this.now);
    else {
      const transfer = network.take(number);
      if (!transfer.link.up) return;
      const { from, to, link } = transfer;
      if (link.near) this.#member(from).landed(transfer);
      else this.#queueOf(from).push(this.now + this.scenario.farDelayMs, EVENTS.landed, from, to, 0, transfer);
      this.#member(to).arrived(transfer);
    }
  }

  #happen(kind: number, a: number, b: number, c: number, value: unknown): void {
    switch (kind) {
      case EVENTS.message: {
        const { link, message } = value as Letter;
        if (link.up) this.#member(a).heard(b, message);
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
      case EVENTS.landed:
        this.#member(a).landed(value as Transfer);
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
    const link: Link = { a, b, near: this.network.near(a, b), up: true };
    this.#links[a]?.set(b, link);
    this.#links[b]?.set(a, link);
    if (link.near) {
      this.#near[a]?.push(b);
      this.#near[b]?.push(a);
    }
    this.#member(a).linked(b, link);
    this.#member(b).linked(a, link);
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
    if (this.alive[node]) this.#member(node).unlinked(peer);
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
    this.#member(node).died();
    const silent = this.random() < 0.5;
    for (const link of [...this.links(node).values()])
      this.#cut(link, node, silent ? unnoticedMs : this.#messageDelay(link.near));
    this.#timeline.between.push(this.now + between(downMs, this.random), EVENTS.revival, node);
    this.#replaceGateway(node);
  }

  #revive(node: number): void {
    this.alive[node] = 1;
    this.#member(node).revived();
    for (const peer of this.#contacts[node] ?? []) this.#dial(node, peer, between(DIAL_MS, this.random));
    this.#scheduleDeath(node);
  }

  #dial(node: number, peer: number, wait: number): void {
    const trips = DIAL_TRIPS * 2 * this.#messageDelay(this.network.near(node, peer));
    this.#timeline.between.push(this.now + wait + trips, EVENTS.link, node, peer);
  }

  /** Stands for the dialers of the site's other nodes, each of which knows members of other sites. */
  #replaceGateway(node: number): void {
    const { gateways, members, siteOf, origin } = this.topology;
    const site = siteOf[node] as number;
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
