import type { Transfer } from './link.ts';
import type { Peer } from './peer.ts';
import type { World } from './world.ts';

/** What a node was asked for, and the link that it leaves by. */
export class Serving {
  readonly #world: World;
  readonly #self: number;
  readonly #transferOf: (peer: Peer, index: number) => Transfer | undefined;
  #turns: Peer[] = [];

  constructor(world: World, self: number, transferOf: (peer: Peer, index: number) => Transfer | undefined) {
    this.#world = world;
    this.#self = self;
    this.#transferOf = transferOf;
  }

  request(peer: Peer, indexes: readonly number[]): void {
    if (peer.owed.size === 0) this.#turns.push(peer);
    for (const index of indexes) peer.owed.add(index);
    this.next();
  }

  cancel(peer: Peer, indexes: readonly number[]): void {
    for (const index of indexes) peer.owed.delete(index);
  }

  forget(peer: Peer): void {
    peer.owed.clear();
  }

  clear(): void {
    this.#turns = [];
  }

  /** One of the chunks that were under way to the peer is there. */
  landed(peer: Peer): void {
    peer.underWay -= 1;
    this.next();
  }

  next(): void {
    const { network, now, scenario } = this.#world;
    if (!network.idle(this.#self)) return;
    for (let tries = this.#turns.length; tries > 0; tries -= 1) {
      const peer = this.#turns.shift() as Peer;
      const [index] = peer.owed;
      if (index === undefined) continue;
      if (peer.underWay >= scenario.underWay) {
        this.#turns.push(peer);
        continue;
      }
      peer.owed.delete(index);
      if (peer.owed.size > 0) this.#turns.push(peer);
      const transfer = this.#transferOf(peer, index);
      if (transfer === undefined) {
        this.#world.send(this.#self, peer.link, { kind: 'ended', indexes: [index], reason: 'missing' });
        continue;
      }
      peer.underWay += 1;
      network.send(transfer, now);
      return;
    }
  }
}
