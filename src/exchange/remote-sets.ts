import { HaveMap } from '../schedule/have-map.ts';
import { MalformedMessage, MESSAGE_LIMITS, type Message } from './message.ts';

/** Sets that one peer may subscribe to at a time. */
const MAX_SETS = 64;
/** Chunks that one peer may claim at a time, over one set. */
const MAX_CLAIMS = MESSAGE_LIMITS.indexes;
/** A claim that did not become a chunk is forgotten, milliseconds. */
const CLAIM_MS = 15_000;

/** What a peer said of one set. */
export interface RemoteSet {
  readonly handle: number;
  readonly key: string;
  readonly chunks: number;
  readonly map: HaveMap;
  /** It is downloading the set. */
  readonly wants: boolean;
  /** It sees a holder outside its site. */
  readonly outside: boolean;
  /** What it is getting from a seed or from outside: chunk → when it said so, by `performance.now()`. */
  readonly claims: Map<number, number>;
}

type Subscribe = Extract<Message, { kind: 'subscribe' }>;
type Have = Extract<Message, { kind: 'have' }>;

/** What one peer holds and wants, as far as it told us. Bounded in sets, bits and claims. */
export class RemoteSets {
  readonly #byKey = new Map<string, RemoteSet>();
  readonly #keys = new Map<number, string>();
  /** Sets of ours that the peer neither holds nor wants. */
  readonly declined = new Set<string>();

  get(key: string): RemoteSet | undefined {
    return this.#byKey.get(key);
  }

  byHandle(handle: number): RemoteSet | undefined {
    const key = this.#keys.get(handle);
    return key === undefined ? undefined : this.#byKey.get(key);
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
    const now = performance.now();
    const claims = new Map(known ? message.claimed.map((index) => [index, now]) : []);
    this.#byKey.set(key, { handle, key, chunks, map, wants, outside, claims });
    this.#keys.set(handle, key);
    this.declined.delete(key);
    return before;
  }

  /** Returns the set as it is now; undefined for a handle that means nothing (a late message). */
  update(message: Have): RemoteSet | undefined {
    const before = this.byHandle(message.handle);
    if (before === undefined) return undefined;
    const { map, claims, chunks } = before;
    for (const list of [message.added, message.claimed, message.unclaimed, message.lost]) {
      for (const index of list) if (index >= chunks) throw new MalformedMessage(`chunk ${index} of ${chunks}`);
    }
    const now = performance.now();
    for (const index of message.claimed) if (map.size > index && claims.size < MAX_CLAIMS) claims.set(index, now);
    for (const index of message.unclaimed) claims.delete(index);
    for (const index of message.lost) map.delete(index);
    for (const index of message.added) {
      map.add(index);
      claims.delete(index);
    }
    const after = { ...before, wants: message.wants, outside: message.outside };
    this.#byKey.set(before.key, after);
    return after;
  }

  /** True when the peer said lately that it is getting this chunk. */
  claims(key: string, index: number): boolean {
    const set = this.#byKey.get(key);
    const since = set?.claims.get(index);
    if (set === undefined || since === undefined) return false;
    if (performance.now() - since < CLAIM_MS) return true;
    set.claims.delete(index);
    return false;
  }

  unsubscribe(handle: number): RemoteSet | undefined {
    const set = this.byHandle(handle);
    this.#keys.delete(handle);
    if (set) this.#byKey.delete(set.key);
    return set;
  }
}
