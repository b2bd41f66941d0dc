import { UploadQueue } from '../../src/schedule/upload-queue.ts';
import type { Transfer } from './link.ts';
import type { Peer } from './peer.ts';
import type { World } from './world.ts';

export interface ServingDeps {
  readonly world: World;
  readonly self: number;
  /** Chunks of the payload. */
  readonly chunks: number;
  /** The chunk as it leaves; undefined when it is not held. */
  transferOf(peer: Peer, index: number): Transfer | undefined;
  /** Neighbours that say they hold the chunk. */
  holders(index: number): number;
}

/** As src/exchange/uploads.ts: requests of one peer that wait; more are answered with busy. */
const MAX_QUEUED = 512;

/** What a node was asked for, and the link that it leaves by; what leaves next is the `UploadQueue`'s to say. */
export class Serving {
  readonly #deps: ServingDeps;
  readonly #sent: Uint8Array;
  #queue: UploadQueue<Peer, number>;

  constructor(deps: ServingDeps) {
    this.#deps = deps;
    this.#sent = new Uint8Array(deps.chunks);
    this.#queue = this.#emptyQueue();
  }

  request(peer: Peer, indexes: readonly number[]): void {
    const busy: number[] = [];
    for (const index of indexes) {
      if (this.#queue.countOf(peer) >= MAX_QUEUED) busy.push(index);
      else this.#queue.add(peer, 'foreground', index);
    }
    if (busy.length > 0) this.#end(peer, busy, 'busy');
    this.next();
  }

  cancel(peer: Peer, indexes: readonly number[]): void {
    const given = new Set(indexes);
    this.#queue.remove(peer, (index) => given.has(index));
  }

  forget(peer: Peer): void {
    this.#queue.remove(peer);
  }

  clear(): void {
    this.#queue = this.#emptyQueue();
  }

  /** One of the chunks that were under way to the peer is there. */
  landed(peer: Peer): void {
    peer.underWay -= 1;
    this.next();
  }

  next(): void {
    const { world, self } = this.#deps;
    const { network, scenario } = world;
    while (network.idle(self)) {
      const next = this.#queue.next(({ underWay }) => underWay < scenario.underWay);
      if (next === undefined) return;
      const { peer, request: index } = next;
      const transfer = this.#deps.transferOf(peer, index);
      if (transfer === undefined) {
        this.#end(peer, [index], 'missing');
        continue;
      }
      this.#queue.gave(peer, transfer.bytes);
      this.#sent[index] = Math.min(255, (this.#sent[index] ?? 0) + 1);
      peer.underWay += 1;
      network.send(transfer, world.now);
    }
  }

  #emptyQueue(): UploadQueue<Peer, number> {
    return new UploadQueue({ copies: (index) => (this.#sent[index] ?? 0) + this.#deps.holders(index) });
  }

  #end(peer: Peer, indexes: readonly number[], reason: 'missing' | 'busy'): void {
    this.#deps.world.send(this.#deps.self, peer.link, { kind: 'ended', indexes, reason });
  }
}
