import { HaveMap } from '../../src/schedule/have-map.ts';
import type { RemotePeer } from '../../src/schedule/holder.ts';
import { FAR_PATIENCE } from '../../src/schedule/patience.ts';
import { Window } from '../../src/schedule/window.ts';
import type { Link } from './link.ts';
import type { Message } from './message.ts';

/** What a node said of the payload since it last said everything. */
export interface Remote extends RemotePeer {
  wants: boolean;
  outside: boolean;
}

/** Another node as one agent knows it over one link: what the other said, what was asked of it, what it asked. */
export class Peer {
  readonly id: string;
  readonly number: number;
  readonly link: Link;
  readonly window: Window;
  /** undefined until it has said what it holds. */
  remote: Remote | undefined;
  /** It downloads the payload, and so hears of our chunks. */
  wants = false;
  /** It has answered to our interest. */
  answered = false;
  firstClaims: readonly number[] = [];
  /** Chunks that it owes us, and when they were asked for. */
  readonly asked = new Map<number, number>();
  /** Chunks that are between the two nodes' links. */
  underWay = 0;

  constructor(id: string, number: number, link: Link) {
    this.id = id;
    this.number = number;
    this.link = link;
    this.window = new Window(link.near ? {} : FAR_PATIENCE);
  }

  /** @param chunks of the payload */
  subscribed({ have, wants, outside, claimed }: Extract<Message, { kind: 'subscribe' }>, chunks: number): void {
    const { id, window, link } = this;
    const map = have instanceof HaveMap ? have : HaveMap.from(have, chunks);
    this.remote = { id, window, near: link.near, map, wants, outside };
    this.firstClaims = claimed;
    this.answered = true;
  }
}
