import { Download, type DownloadOptions } from '../../src/schedule/download.ts';
import { HaveMap } from '../../src/schedule/have-map.ts';
import type { RemotePeer } from '../../src/schedule/holder.ts';
import { News } from '../../src/schedule/news.ts';
import { FAR_PATIENCE } from '../../src/schedule/patience.ts';
import { UploadQueue } from '../../src/schedule/upload-queue.ts';
import { Window } from '../../src/schedule/window.ts';

export const CHUNK = 64 * 1024;

export interface NodePlan {
  readonly id: string;
  readonly site: string;
  /** Bytes per millisecond, each way. */
  readonly rate: number;
  readonly seed?: boolean;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Another node as one node knows it. */
class Peer {
  readonly remote: Mutable<RemotePeer>;
  readonly asked = new Map<number, number>();

  constructor(node: Node, near: boolean, chunks: number) {
    const map = HaveMap.from(node.have.bytes(), chunks);
    const wants = node.download !== undefined;
    this.remote = { id: node.id, near, map, wants, outside: true, window: new Window(near ? {} : FAR_PATIENCE) };
  }
}

class Node {
  readonly id: string;
  readonly site: string;
  readonly rate: number;
  readonly have: HaveMap;
  readonly peers = new Map<string, Peer>();
  readonly queue: UploadQueue<string, number>;
  readonly news = new News();
  readonly sent: Uint32Array;
  download: Download | undefined;
  dead = false;
  sending = false;
  downFreeAt = 0;
  finishedAt: number | undefined;
  /** When each chunk came. */
  readonly cameAt: number[] = [];
  received = 0;

  constructor({ id, site, rate, seed = false }: NodePlan, chunks: number) {
    this.id = id;
    this.site = site;
    this.rate = rate;
    this.have = seed ? HaveMap.full(chunks) : new HaveMap(chunks);
    this.sent = new Uint32Array(chunks);
    this.queue = new UploadQueue({ copies: (index) => this.sent[index] ?? 0 });
  }
}

/**
 * Nodes around the agent's own decisions, with links of given rates: chunks leave a node one after the other, and
 * come in one after the other; a message takes a millisecond. Everything happens in the order of its time.
 */
export class Model {
  readonly nodes = new Map<string, Node>();
  readonly chunks: number;
  now = 0;
  readonly #sizes: Uint32Array;
  readonly #random: () => number;
  #events: { readonly at: number; readonly order: number; run(): void }[] = [];
  #order = 0;

  constructor(plans: readonly NodePlan[], chunks: number, seed = 1, options: Partial<DownloadOptions> = {}) {
    this.chunks = chunks;
    this.#sizes = new Uint32Array(chunks).fill(CHUNK);
    this.#random = seeded(seed);
    for (const plan of plans) this.nodes.set(plan.id, new Node(plan, chunks));
    const random = this.#random;
    for (const node of this.nodes.values()) {
      if (node.have.complete) continue;
      node.download = new Download({ self: node.id, sizes: this.#sizes, have: node.have, random }, options);
    }
    for (const node of this.nodes.values())
      for (const other of this.nodes.values()) if (other !== node) this.#meet(node, other);
    for (const node of this.nodes.values()) if (node.download) this.#beat(node);
  }

  node(id: string): Node {
    return this.nodes.get(id) as Node;
  }

  at(time: number, run: () => void): void {
    this.#events.push({ at: time, order: this.#order++, run });
  }

  /** Falls silent, and nobody is told. */
  kill(id: string): void {
    const node = this.node(id);
    node.dead = true;
    node.download = undefined;
  }

  /** Runs until all that live have everything, or nothing happens any more. Returns milliseconds. */
  run(limit = 60_000): number {
    // Few events wait at a time: a sorted list does.
    while (this.#events.length > 0 && this.now < limit) {
      let first = 0;
      for (let n = 1; n < this.#events.length; n += 1) {
        const [one, best] = [this.#events[n], this.#events[first]];
        if (one && best && (one.at < best.at || (one.at === best.at && one.order < best.order))) first = n;
      }
      const [event] = this.#events.splice(first, 1);
      if (event === undefined) break;
      this.now = event.at;
      event.run();
      if ([...this.nodes.values()].every((node) => node.dead || node.have.complete)) break;
    }
    return this.now;
  }

  /** Chunks that left a node, over those of the set. */
  copies(id: string): number {
    return this.node(id).sent.reduce((sum, count) => sum + count, 0) / this.chunks;
  }

  #meet(node: Node, other: Node): void {
    const peer = new Peer(other, node.site === other.site, this.chunks);
    node.peers.set(other.id, peer);
    node.download?.join(peer.remote, this.now);
  }

  #beat(node: Node): void {
    if (node.download === undefined) return;
    this.#plan(node);
    this.#tell(node);
    this.at(this.now + 10, () => this.#beat(node));
  }

  #tell(node: Node): void {
    const near = [...node.peers.values()].filter(({ remote }) => remote.near).length;
    if (node.news.nearAt(near, node.download !== undefined) > this.now) return;
    const changes = node.news.takeNear(this.now);
    for (const other of this.nodes.values()) {
      const peer = other.peers.get(node.id);
      if (!peer?.remote.near) continue;
      this.at(this.now + 1, () => {
        const added = changes.added.filter((index) => peer.remote.map.add(index));
        peer.remote.wants = !node.have.complete;
        other.download?.heard(node.id, { ...changes, added }, this.now);
        this.#plan(other);
      });
    }
  }

  #plan(node: Node): void {
    const { download } = node;
    if (download === undefined) return;
    const outstanding = [...node.peers.values()].reduce((sum, { remote }) => sum + remote.window.outstanding, 0);
    const plan = download.plan(this.now, { budget: 32 * 1024 * 1024 - outstanding });
    for (const { peer: id, indexes } of plan.cancels) {
      for (const index of indexes)
        if (node.peers.get(id)?.asked.delete(index)) node.peers.get(id)?.remote.window.released(CHUNK);
      const given = new Set(indexes);
      this.at(this.now + 1, () => this.node(id).queue.remove(node.id, (index) => given.has(index)));
    }
    for (const { peer: id, indexes } of plan.asks) {
      for (const index of indexes) {
        node.peers.get(id)?.asked.set(index, this.now);
        node.peers.get(id)?.remote.window.asked(CHUNK, this.now);
      }
      this.at(this.now + 1, () => {
        for (const index of indexes) this.node(id).queue.add(node.id, 'foreground', index);
        this.#send(this.node(id));
      });
    }
    for (const index of plan.unclaimed) node.news.unclaim(index, this.now);
    for (const index of plan.claimed) node.news.claim(index, this.now);
    if (plan.urgentNews) node.news.hurry();
    if (plan.claimed.length + plan.unclaimed.length > 0) this.#tell(node);
  }

  #send(node: Node): void {
    if (node.sending || node.dead) return;
    const next = node.queue.next(() => true);
    if (next === undefined) return;
    node.sending = true;
    node.queue.gave(next.peer, CHUNK);
    node.sent[next.request] = (node.sent[next.request] ?? 0) + 1;
    const to = this.node(next.peer);
    this.at(this.now + CHUNK / node.rate, () => {
      node.sending = false;
      if (node.dead) return;
      to.downFreeAt = Math.max(this.now, to.downFreeAt + CHUNK / to.rate);
      this.at(to.downFreeAt, () => this.#arrived(to, node.id, next.request));
      this.#send(node);
    });
  }

  #arrived(node: Node, from: string, index: number): void {
    const peer = node.peers.get(from);
    if (peer === undefined || node.dead) return;
    node.received += 1;
    const askedAt = peer.asked.get(index);
    if (askedAt !== undefined) peer.remote.window.delivered(CHUNK, this.now - askedAt, this.now);
    peer.asked.delete(index);
    const { download } = node;
    if (download?.delivered(from, index, this.now)) {
      node.have.add(index);
      node.cameAt.push(this.now);
      node.news.stored(index, { first: download.spread(index) === 0, left: node.have.missing }, this.now);
      download.stored(index);
    }
    if (node.have.complete && node.finishedAt === undefined) node.finishedAt = this.now;
    this.#plan(node);
  }
}

/** A small, seeded generator: the same numbers every time. */
function seeded(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
