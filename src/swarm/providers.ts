import type { CID } from 'multiformats/cid';
import type { Log } from '../observe/log.ts';
import type { SwarmNode } from './node.ts';

/** One walk through the DHT, milliseconds. */
const WALK_MS = 8_000;
/** Providers looked at per walk. */
const MAX_PROVIDERS = 8;
/** Announcements under way or waiting; more are left to the DHT's own republishing. */
const MAX_PROVIDING = 64;
/** The same name is not looked up again for this long, milliseconds. */
const LOOKUP_PAUSE_MS = 3_000;

/** Who has an artifact, for those who are not connected to anybody that has it: Kademlia provider records. */
export class Providers implements Disposable {
  readonly #node: SwarmNode;
  readonly #log: Log;
  readonly #admits: (peerId: string) => boolean;
  readonly #abort = new AbortController();
  readonly #lookups = new Map<string, number>();
  #providing = 0;

  constructor(deps: { readonly node: SwarmNode; readonly log: Log; admits(peerId: string): boolean }) {
    this.#node = deps.node;
    this.#log = deps.log;
    this.#admits = deps.admits;
  }

  /** Says in the DHT that we hold (part of) `cid`. Fails quietly: connected peers know without it. */
  async provide(cid: CID): Promise<void> {
    if (this.#providing >= MAX_PROVIDING || this.#abort.signal.aborted) return;
    this.#providing += 1;
    try {
      for await (const _ of this.#node.services.dht.provide(cid, { signal: this.#signal() }));
    } catch (error) {
      this.#log.debug('not announced in the dht', { cid: cid.toString(), error });
    } finally {
      this.#providing -= 1;
    }
  }

  /** Connects to providers of `cid` that are members; resolves to the ids of those that it found. */
  async connect(cid: CID, { signal }: { readonly signal?: AbortSignal } = {}): Promise<string[]> {
    const key = cid.toString();
    const now = performance.now();
    if (now - (this.#lookups.get(key) ?? Number.NEGATIVE_INFINITY) < LOOKUP_PAUSE_MS) return [];
    if (this.#lookups.size >= 1024) this.#lookups.clear();
    this.#lookups.set(key, now);
    const self = this.#node.peerId.toString();
    const found = new Set<string>();
    const dials: Promise<unknown>[] = [];
    try {
      for await (const event of this.#node.services.dht.findProviders(cid, { signal: this.#signal(signal) })) {
        if (event.name !== 'PROVIDER') continue;
        for (const { id, multiaddrs } of event.providers) {
          const peer = id.toString();
          if (peer === self || found.has(peer) || found.size >= MAX_PROVIDERS || !this.#admits(peer)) continue;
          found.add(peer);
          if (multiaddrs.length > 0) await this.#node.peerStore.merge(id, { multiaddrs });
          dials.push(this.#node.dial(id, { signal: this.#signal(signal) }).catch(() => undefined));
        }
      }
    } catch (error) {
      signal?.throwIfAborted();
      this.#log.debug('provider lookup ended early', { cid: key, error });
    }
    await Promise.all(dials);
    return [...found];
  }

  [Symbol.dispose](): void {
    this.#abort.abort();
  }

  #signal(other?: AbortSignal): AbortSignal {
    return AbortSignal.any([this.#abort.signal, AbortSignal.timeout(WALK_MS), ...(other ? [other] : [])]);
  }
}
