import { HaveMap } from '../../src/schedule/have-map.ts';
import type { RemotePeer } from '../../src/schedule/holder.ts';
import { Window } from '../../src/schedule/window.ts';
import type { Link } from './link.ts';
import type { Message } from './message.ts';

/** Another node as one agent knows it over one link: what the other said, what was asked of it, what it asked. */
export class Peer implements RemotePeer {
  readonly id: string;
  readonly number: number;
  readonly link: Link;
  readonly near: boolean;
  readonly window = new Window();
  map: HaveMap;
  wants = false;
  outside = false;
  /** It has said what it holds. */
  known = false;
  firstClaims: readonly number[] = [];
  /** Chunks that it owes us, and when they were asked for. */
  readonly asked = new Map<number, number>();
  /** Chunks that we owe it. */
  readonly owed = new Set<number>();
  /** Chunks that are between the two nodes' links. */
  underWay = 0;

  constructor(id: string, number: number, link: Link, chunks: number) {
    this.id = id;
    this.number = number;
    this.link = link;
    this.near = link.near;
    this.map = new HaveMap(chunks);
  }

  subscribed({ have, wants, outside, claimed }: Extract<Message, { kind: 'subscribe' }>): void {
    this.map = HaveMap.from(have, this.map.size);
    this.wants = wants;
    this.outside = outside;
    this.firstClaims = claimed;
    this.known = true;
  }
}
