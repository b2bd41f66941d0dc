import { HaveMap } from '../../src/schedule/have-map.ts';
import { falseTag } from './content.ts';
import type { Link, Transfer } from './link.ts';
import type { Message } from './message.ts';
import type { Member, World } from './world.ts';

/**
 * What a liar does when it is asked for the chunks that it says it has: sends wrong bytes, says that it has them not,
 * or nothing at all. A claimer has nothing, sees strangers, and claims every chunk as being fetched by it, for ever.
 */
export const LIES = ['wrong bytes', 'missing', 'silence', 'claims'] as const;
export type Lie = (typeof LIES)[number];

/** A claimer says it again this often, milliseconds. */
const CLAIM_AGAIN_MS = 1_000;
/** Most chunk numbers in one message, as in src/exchange/message.ts. */
const CLAIMS = 8_192;

/** A node that means harm, and keeps to the protocol as far as that serves it. */
export class Liar implements Member {
  readonly lie: Lie;
  readonly #world: World;
  readonly #self: number;
  readonly #sizes: ArrayLike<number>;
  readonly #all: readonly number[];
  readonly #queue: { readonly link: Link; readonly to: number; readonly index: number }[] = [];

  constructor({ world, sizes }: { readonly world: World; readonly sizes: ArrayLike<number> }, self: number, lie: Lie) {
    this.lie = lie;
    this.#world = world;
    this.#self = self;
    this.#sizes = sizes;
    this.#all = Array.from({ length: Math.min(sizes.length, CLAIMS) }, (_, index) => index);
  }

  linked(_peer: number, link: Link): void {
    this.#subscribe(link);
    if (this.lie === 'claims' && this.#world.links(this.#self).size === 1) this.woken();
  }

  #subscribe(link: Link): void {
    const chunks = this.#sizes.length;
    const claims = this.lie === 'claims';
    const map = claims ? new HaveMap(chunks) : HaveMap.full(chunks);
    const have = link.near ? map : map.bytes();
    const message: Message = {
      kind: 'subscribe',
      have,
      wants: claims,
      outside: claims,
      claimed: claims ? this.#all : [],
    };
    this.#world.send(this.#self, link, message);
  }

  unlinked(peer: number): void {
    const rest = this.#queue.filter(({ to }) => to !== peer);
    this.#queue.splice(0, this.#queue.length, ...rest);
  }

  heard(peer: number, message: Message): void {
    const link = this.#world.links(this.#self).get(peer);
    if (link === undefined) return;
    if (message.kind === 'subscribe' && message.wants) this.#subscribe(link);
    if (message.kind !== 'request' || this.lie === 'silence' || this.lie === 'claims') return;
    if (this.lie === 'missing') {
      const ended: Message = { kind: 'ended', indexes: message.indexes, reason: 'missing' };
      this.#world.send(this.#self, link, ended);
      return;
    }
    for (const index of message.indexes) this.#queue.push({ link, to: peer, index });
    this.#send();
  }

  spoke(): void {}

  progressed(): void {}

  arrived(): void {}

  landed(): void {}

  left(): void {
    this.#send();
  }

  woken(): void {
    if (this.lie !== 'claims') return;
    const message: Message = {
      kind: 'have',
      added: [],
      claimed: this.#all,
      unclaimed: [],
      wants: true,
      outside: true,
    };
    this.#world.speak(this.#self, true, message);
    this.#world.wake(this.#self, 0, this.#world.now + CLAIM_AGAIN_MS);
  }

  died(): void {
    this.#queue.length = 0;
  }

  revived(): void {}

  #send(): void {
    const { network, now, life } = this.#world;
    if (!network.idle(this.#self)) return;
    const next = this.#queue.shift();
    if (next === undefined) return;
    const transfer: Transfer = {
      ...next,
      name: network.nameFrom(this.#self),
      from: this.#self,
      tag: falseTag(next.index),
      bytes: this.#sizes[next.index] ?? 0,
      life: life[this.#self] as number,
    };
    network.send(transfer, now);
  }
}
