import { HaveMap } from '../schedule/have-map.ts';
import type { Heard } from '../schedule/prospects.ts';
import { MalformedMessage, type Message } from './message.ts';

/** Sets that one peer may subscribe to at a time. */
const MAX_SETS = 64;

/** What a peer said of one set. */
export interface RemoteSet {
  readonly handle: number;
  readonly key: string;
  readonly chunks: number;
  /** Of size 0 while we do not share the set ourselves. */
  readonly map: HaveMap;
  /** It is downloading the set. */
  readonly wants: boolean;
  /** It sees a holder outside its site. */
  readonly outside: boolean;
  /** What it was getting from a seed or from outside when it subscribed. */
  readonly claimed: readonly number[];
}

type Kept = { -readonly [K in keyof RemoteSet]: RemoteSet[K] };
type Subscribe = Extract<Message, { kind: 'subscribe' }>;
type Have = Extract<Message, { kind: 'have' }>;

/** What one peer holds and wants, as far as it told us. Bounded in sets and bits. */
export class RemoteSets {
  readonly #byKey = new Map<string, Kept>();
  readonly #keys = new Map<number, string>();
  /** Sets of ours that the peer neither holds nor wants. */
  readonly declined = new Set<string>();

  get(key: string): RemoteSet | undefined {
    return this.#byKey.get(key);
  }

  byHandle(handle: number): RemoteSet | undefined {
    return this.#known(handle);
  }

  /**
   * Returns what was known before. Of a set that is not ours (`known` false) only the interest is kept, not the map:
   * when we want the set, our own Subscribe makes the peer say it again.
   */
  subscribe(message: Subscribe, known: boolean): RemoteSet | undefined {
    const key = message.set.toString();
    const before = this.#byKey.get(key);
    const other = this.#keys.get(message.handle);
    if (other !== undefined && other !== key) throw new MalformedMessage('a handle names two sets');
    if (before === undefined && this.#byKey.size >= MAX_SETS) throw new MalformedMessage('too many sets');
    if (before !== undefined && before.handle !== message.handle) throw new MalformedMessage('a set has two handles');
    const { handle, chunks, have, wants, outside } = message;
    const size = known ? chunks : 0;
    const map = have === 'all' ? HaveMap.full(size) : HaveMap.from(have, size);
    const claimed = known ? message.claimed : [];
    this.#byKey.set(key, { handle, key, chunks, map, wants, outside, claimed });
    this.#keys.set(handle, key);
    this.declined.delete(key);
    return before;
  }

  /** The set, and what is really new in it; undefined for a handle that means nothing (a late message). */
  update(message: Have): { readonly set: RemoteSet; readonly news: Heard } | undefined {
    const set = this.#known(message.handle);
    if (set === undefined) return undefined;
    const { map, chunks } = set;
    for (const list of [message.added, message.claimed, message.unclaimed, message.lost]) {
      for (const index of list) if (index >= chunks) throw new MalformedMessage(`chunk ${index} of ${chunks}`);
    }
    set.wants = message.wants;
    set.outside = message.outside;
    if (map.size < chunks) return { set, news: {} };
    const lost = message.lost.filter((index) => map.delete(index));
    const added = message.added.filter((index) => map.add(index));
    return { set, news: { lost, added, claimed: message.claimed, unclaimed: message.unclaimed } };
  }

  unsubscribe(handle: number): RemoteSet | undefined {
    const set = this.byHandle(handle);
    this.#keys.delete(handle);
    if (set) this.#byKey.delete(set.key);
    return set;
  }

  #known(handle: number): Kept | undefined {
    const key = this.#keys.get(handle);
    return key === undefined ? undefined : this.#byKey.get(key);
  }
}
