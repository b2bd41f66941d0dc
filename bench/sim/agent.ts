import { EXCHANGE_DEFAULTS } from '../../src/exchange/exchange.ts';
import { Download, type Plan } from '../../src/schedule/download.ts';
import { HaveMap } from '../../src/schedule/have-map.ts';
import { News } from '../../src/schedule/news.ts';
import { Standing } from '../../src/swarm/standing.ts';
import { trueTag } from './content.ts';
import type { Link, Transfer } from './link.ts';
import type { Message } from './message.ts';
import { Peer } from './peer.ts';
import { Serving } from './serving.ts';
import type { Tally } from './tally.ts';
import type { Member, World } from './world.ts';

export interface AgentDeps {
  readonly world: World;
  readonly tally: Tally;
  /** Plain bytes of each chunk. */
  readonly sizes: ArrayLike<number>;
}

/** Reasons to wake up. */
const BEGIN = 0;
const PLAN = 1;
const WATCH = 2;
const ANNOUNCE = 3;

/**
 * An honest node. What is fetched from whom, given up, waited for and served next is decided by src/schedule; this is
 * what src/exchange is around it: it keeps the windows, carries messages, and looks at what arrives.
 */
export class Agent implements Member {
  readonly self: number;
  readonly #id: string;
  readonly #deps: AgentDeps;
  readonly #world: World;
  /** What it holds: the tag of each chunk, 0 for none. */
  readonly tags: Uint32Array;
  #have: HaveMap;
  /** What its neighbours have heard that it holds. */
  #heard: HaveMap;
  #download: Download | undefined;
  readonly #serving: Serving;
  readonly #standing = new Standing();
  readonly #peers = new Map<number, Peer>();
  readonly #byId = new Map<string, Peer>();
  #news = new News();
  #audience = { near: 0, far: 0 };
  #outside = false;
  #startedAt: number | undefined;
  #settled = false;
  #outstanding = 0;
  #planning = false;
  #announceAt = Number.POSITIVE_INFINITY;
  #watchAt = Number.POSITIVE_INFINITY;
  /** Milliseconds from its start to its last chunk. */
  took: number | undefined;

  constructor(deps: AgentDeps, self: number) {
    this.self = self;
    this.#id = nameOf(self);
    this.#deps = deps;
    this.#world = deps.world;
    this.tags = new Uint32Array(deps.sizes.length);
    this.#have = new HaveMap(deps.sizes.length);
    this.#heard = new HaveMap(deps.sizes.length);
    this.#serving = new Serving({
      world: deps.world,
      self,
      chunks: deps.sizes.length,
      transferOf: (peer, index) => this.#transferOf(peer, index),
      holders: (index) => this.#download?.spread(index) ?? 0,
    });
  }

  /** It has the payload from the start. */
  seed(): void {
    for (let index = 0; index < this.tags.length; index += 1) this.tags[index] = trueTag(index);
    this.#have = HaveMap.full(this.tags.length);
    this.#heard = this.#have;
  }

  /** It wants the payload from then on. */
  begin(at: number): void {
    this.#world.wake(this.self, BEGIN, at);
  }

  linked(other: number, link: Link): void {
    const peer = new Peer(nameOf(other), other, link);
    this.#peers.set(other, peer);
    this.#byId.set(peer.id, peer);
    this.#subscribe(peer);
  }

  unlinked(other: number): void {
    const peer = this.#peers.get(other);
    if (peer === undefined) return;
    this.#peers.delete(other);
    this.#byId.delete(peer.id);
    this.#serving.forget(peer);
    this.#count(peer, false);
    this.#outstanding -= peer.window.outstanding;
    if (this.#download === undefined) return;
    this.#download.leave(peer.id, this.#world.now);
    if (!peer.link.near) this.#lookOutside();
    this.#plan();
  }

  heard(from: number, message: Message): void {
    const peer = this.#peers.get(from);
    if (peer === undefined) return;
    switch (message.kind) {
      case 'subscribe': {
        const wanted = peer.remote?.wants === true;
        peer.subscribed(message, this.tags.length);
        this.#count(peer, message.wants);
        if (message.wants && !wanted) this.#subscribe(peer);
        if (this.#download) this.#join(this.#download, peer);
        return;
      }
      case 'have':
        this.#learn(peer, message);
        return;
      case 'request':
        this.#serving.request(peer, message.indexes);
        return;
      case 'cancel':
        this.#serving.cancel(peer, message.indexes);
        return;
      case 'ended':
        if (message.reason === 'busy') peer.window.shrink();
        for (const index of message.indexes) {
          if (!this.#release(peer, index)) continue;
          this.#download?.ended(peer.id, index, message.reason);
        }
        this.#plan();
    }
  }

  spoke({ added }: Extract<Message, { kind: 'have' }>): void {
    for (const index of added) this.#heard.add(index);
  }

  progressed(transfer: Transfer): void {
    this.#peers.get(transfer.from)?.window.progress(this.#world.now);
  }

  arrived(transfer: Transfer): void {
    const peer = this.#peers.get(transfer.from);
    if (peer === undefined) return;
    const { now, scenario } = this.#world;
    const { index, tag } = transfer;
    const askedAt = peer.asked.get(index);
    if (askedAt !== undefined) {
      peer.asked.delete(index);
      this.#outstanding -= transfer.bytes;
      peer.window.delivered(transfer.bytes, now - askedAt, now);
    }
    if (scenario.verify && tag !== trueTag(index)) this.#refuse(peer, index);
    else if (this.#download?.delivered(peer.id, index, now)) this.#store(this.#download, index, tag);
    else this.#deps.tally.duplicates += 1;
    this.#plan();
  }

  left(): void {
    this.#serving.next();
  }

  landed(to: number, link: Link): void {
    const peer = this.#peers.get(to);
    if (peer?.link === link) this.#serving.landed(peer);
  }

  woken(what: number): void {
    if (what === BEGIN) this.#begin();
    else if (what === PLAN) {
      this.#planning = false;
      this.#doPlan();
    } else if (what === WATCH) {
      // One that was put off since comes nevertheless.
      if (this.#world.now < this.#watchAt) return;
      this.#watchAt = Number.POSITIVE_INFINITY;
      this.#doPlan();
    } else if (what === ANNOUNCE) {
      // An earlier one may have taken its place.
      if (this.#world.now < this.#announceAt) return;
      this.#announceAt = Number.POSITIVE_INFINITY;
      this.#tell();
    }
  }

  died(): void {
    this.#download = undefined;
    this.#peers.clear();
    this.#byId.clear();
    this.#serving.clear();
    this.#audience = { near: 0, far: 0 };
    this.#news = new News();
    this.#heard = HaveMap.from(this.#have.bytes(), this.#have.size);
    this.#outside = false;
    this.#settled = false;
    this.#outstanding = 0;
    this.#planning = false;
    this.#announceAt = Number.POSITIVE_INFINITY;
    this.#watchAt = Number.POSITIVE_INFINITY;
  }

  revived(): void {
    if (!this.#have.complete) this.#begin();
  }

  #begin(): void {
    const { now } = this.#world;
    this.#startedAt ??= now;
    const { sizes } = this.#deps;
    const random = this.#world.randomOf(this.self);
    this.#download = new Download({ self: this.#id, sizes, have: this.#have, random });
    this.#announceSoon();
    // Everybody answers with all that is to be said, claims included.
    for (const peer of this.#peers.values()) {
      peer.answered = false;
      this.#subscribe(peer);
    }
  }

  #subscribe(peer: Peer): void {
    const have = peer.link.near ? this.#heard : this.#have.bytes();
    const wants = this.#download !== undefined;
    const claimed = [...(this.#download?.claims ?? [])];
    this.#say(peer, { kind: 'subscribe', have, wants, outside: this.#outside, claimed });
  }

  #join(download: Download, peer: Peer): void {
    if (peer.remote) download.join(peer.remote, this.#world.now);
    if (peer.firstClaims.length > 0) download.heard(peer.id, { claimed: peer.firstClaims }, this.#world.now);
    if (!peer.link.near) this.#lookOutside();
    this.#plan();
  }

  #learn(peer: Peer, message: Extract<Message, { kind: 'have' }>): void {
    const { remote } = peer;
    if (remote === undefined) return;
    const added = remote.near ? message.added : message.added.filter((index) => remote.map.add(index));
    const { now } = this.#world;
    remote.wants = message.wants;
    this.#count(peer, message.wants);
    remote.outside = message.outside;
    const download = this.#download;
    if (download === undefined) return;
    const { claimed, unclaimed } = message;
    const worth = download.heard(peer.id, { added, claimed, unclaimed }, now);
    if (!remote.near && !this.#outside) this.#lookOutside();
    if (worth) this.#plan();
  }

  #refuse(peer: Peer, index: number): void {
    const { now } = this.#world;
    this.#deps.tally.refused += 1;
    this.#download?.ended(peer.id, index, 'corrupt');
    this.#standing.ban(peer.id, now);
    this.#deps.tally.bans += 1;
    this.#world.ban(this.self, peer.number);
  }

  #store(download: Download, index: number, tag: number): void {
    this.tags[index] = tag;
    this.#have.add(index);
    this.#news.stored(index, { first: download.spread(index) === 0, left: this.#have.missing }, this.#world.now);
    download.stored(index);
    this.#deps.tally.stored += 1;
    this.#announceSoon();
    if (!this.#have.complete) return;
    this.#download = undefined;
    this.#news.changed(this.#world.now);
    this.#announceSoon();
    if (this.took !== undefined) return;
    this.took = this.#world.now - (this.#startedAt ?? 0);
    this.#deps.tally.finished += 1;
  }

  #lookOutside(): void {
    const outside = this.#download?.outside ?? false;
    if (outside === this.#outside) return;
    this.#outside = outside;
    this.#news.changed(this.#world.now);
    this.#announceSoon();
  }

  #announceSoon(): void {
    const { near, far } = this.#audience;
    const at = Math.min(this.#news.nearAt(near, this.#download !== undefined), this.#news.farAt(far));
    if (at >= this.#announceAt) return;
    this.#announceAt = at;
    this.#world.wake(this.self, ANNOUNCE, Math.max(at, this.#world.now));
  }

  /** What it is time to say; claims are the site's own business. */
  #tell(): void {
    const { now } = this.#world;
    const { near, far } = this.#audience;
    const wants = this.#download !== undefined;
    const about = { kind: 'have', wants, outside: this.#outside } as const;
    if (this.#news.nearAt(near, wants) <= now)
      this.#world.speak(this.self, true, { ...about, ...this.#news.takeNear(now) });
    if (this.#news.farAt(far) <= now) this.#world.speak(this.self, false, { ...about, ...this.#news.takeFar(now) });
    this.#announceSoon();
  }

  /** How many peers want to hear of our chunks. */
  #count(peer: Peer, wants: boolean): void {
    if (peer.wants === wants) return;
    peer.wants = wants;
    this.#audience[peer.link.near ? 'near' : 'far'] += wants ? 1 : -1;
    if (wants) this.#announceSoon();
  }

  #plan(): void {
    if (this.#planning || this.#download === undefined || this.#download.idle(this.#world.now)) return;
    this.#planning = true;
    this.#world.wake(this.self, PLAN, this.#world.now);
  }

  #doPlan(): void {
    const download = this.#download;
    if (download === undefined) return;
    const { now } = this.#world;
    this.#settled ||= this.#isSettled();
    const budget = EXCHANGE_DEFAULTS.maxBytesInFlight - this.#outstanding;
    this.#carryOut(download.plan(now, { budget, settled: this.#settled }));
    const at = download.wakeAt(now);
    if (at >= this.#watchAt) return;
    this.#watchAt = at;
    this.#world.wake(this.self, WATCH, at);
  }

  #isSettled(): boolean {
    if (this.#world.now - (this.#startedAt ?? 0) > EXCHANGE_DEFAULTS.settleMs) return true;
    for (const peer of this.#peers.values()) if (peer.link.near && !peer.answered) return false;
    return true;
  }

  #carryOut(plan: Plan): void {
    const { now } = this.#world;
    for (const { peer: id, indexes } of plan.cancels) {
      const peer = this.#byId.get(id);
      if (peer === undefined) continue;
      const given = indexes.filter((index) => this.#release(peer, index));
      if (given.length > 0) this.#say(peer, { kind: 'cancel', indexes: given });
    }
    for (const id of plan.stalled) this.#byId.get(id)?.window.shrink();
    for (const { peer: id, indexes } of plan.asks) {
      const peer = this.#byId.get(id);
      if (peer === undefined) continue;
      for (const index of indexes) {
        const bytes = this.#deps.sizes[index] ?? 0;
        peer.asked.set(index, now);
        peer.window.asked(bytes, now);
        this.#outstanding += bytes;
      }
      this.#say(peer, { kind: 'request', indexes });
    }
    for (const index of plan.unclaimed) this.#news.unclaim(index, now);
    for (const index of plan.claimed) this.#news.claim(index, now);
    if (plan.urgentNews) {
      this.#news.hurry();
      this.#tell();
    } else if (plan.claimed.length + plan.unclaimed.length > 0) this.#announceSoon();
  }

  #say(peer: Peer, message: Message): void {
    this.#world.send(this.self, peer.link, message);
  }

  /** The request is over without bytes; false when it was before. */
  #release(peer: Peer, index: number): boolean {
    if (!peer.asked.delete(index)) return false;
    const bytes = this.#deps.sizes[index] ?? 0;
    peer.window.released(bytes);
    this.#outstanding -= bytes;
    return true;
  }

  #transferOf(peer: Peer, index: number): Transfer | undefined {
    if (!this.#have.has(index)) return undefined;
    return {
      name: this.#world.network.nameFrom(this.self),
      link: peer.link,
      from: this.self,
      to: peer.number,
      index,
      tag: this.tags[index] ?? 0,
      bytes: this.#deps.sizes[index] ?? 0,
      life: this.#world.life[this.self] as number,
    };
  }
}

function nameOf(node: number): string {
  return `node-${node}`;
}
