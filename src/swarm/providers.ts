import type { CID } from 'multiformats/cid';
import type { Log } from '../observe/log.ts';
import type { SwarmNode } from './node.ts';

/** One walk through the DHT, milliseconds. */
const WALK_MS = 8_000;
/** Providers looked at per walk. */
const MAX_PROVIDERS = 8;
/** Names that we announce; the DHT republishes them by itself once they are told. */
const MAX_PROVIDED = 1024;
/** After a connection, or a name, more are awaited for this long before we announce, milliseconds. */
const PAUSE_MS = 500;
/** A copy is announced between once and twice this time after its download, as a site's are made at once, milliseconds… */
const COPY_MS = 30_000;
/** …and one that is still being made so long after its beginning, milliseconds. */
const PART_MS = 300_000;
/** Kademlia's k: with this many peers told, more of them change nothing. */
const ENOUGH_PEERS = 20;
/** The same name is not looked up again for this long, milliseconds. */
const LOOKUP_PAUSE_MS = 3_000;

/** Who has an artifact, for those who are not connected to anybody that has it: Kademlia provider records. */
export class Providers implements Disposable {
  readonly #node: SwarmNode;
  readonly #log: Log;
  readonly #admits: (peerId: string) => boolean;
  readonly #abort = new AbortController();
  readonly #lookups = new Map<string, number>();
  readonly #provided = new Map<string, Provided>();
  #announcing = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(deps: { readonly node: SwarmNode; readonly log: Log; admits(peerId: string): boolean }) {
    this.#node = deps.node;
    this.#log = deps.log;
    this.#admits = deps.admits;
  }

  /**
   * Says in the DHT that we hold `cid`: a seed soon, a copy or a part of one when its download does not need the
   * processor any more. Fails quietly: connected peers know without it.
   */
  provide(cid: CID, kind: 'seed' | 'copy' | 'part'): void {
    const key = cid.toString();
    const known = this.#provided.get(key);
    if (known === undefined && this.#provided.size >= MAX_PROVIDED) return;
    const at =
      performance.now() + { seed: 0, copy: (1 + Math.random()) * COPY_MS, part: (1 + Math.random()) * PART_MS }[kind];
    if (known === undefined) this.#provided.set(key, { cid, told: 0, at });
    else known.at = Math.min(at, known.at);
    this.#announceAt(at);
  }

  withdraw(cid: CID): void {
    if (this.#provided.delete(cid.toString())) void this.#node.services.dht.cancelReprovide(cid).catch(() => undefined);
  }

  /** There is somebody more to tell. */
  connected(): void {
    this.#announceAt(performance.now());
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
    clearTimeout(this.#timer);
  }

  #announceAt(at: number): void {
    const now = performance.now();
    const due = Math.max(at, now + PAUSE_MS);
    if (due >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = due;
    this.#timer = setTimeout(() => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      this.#announcing = this.#announcing.then(() => this.#announce());
    }, due - now).unref();
  }

  /** Tells the peers nearest to each name that is due, one name after the other: a walk each. */
  async #announce(): Promise<void> {
    let next = Number.POSITIVE_INFINITY;
    for (const [key, entry] of [...this.#provided]) {
      const peers = Math.min(this.#node.getPeers().length, ENOUGH_PEERS);
      if (this.#abort.signal.aborted || !worthTelling(entry.told, peers) || !this.#provided.has(key)) continue;
      if (entry.at > performance.now()) {
        next = Math.min(next, entry.at);
        continue;
      }
      try {
        for await (const _ of this.#node.services.dht.provide(entry.cid, { signal: this.#signal() }));
        entry.told = peers;
      } catch (error) {
        this.#log.debug('not announced in the dht', { cid: key, error });
      }
    }
    if (next < Number.POSITIVE_INFINITY && !this.#abort.signal.aborted) this.#announceAt(next);
  }

  #signal(other?: AbortSignal): AbortSignal {
    return AbortSignal.any([this.#abort.signal, AbortSignal.timeout(WALK_MS), ...(other ? [other] : [])]);
  }
}

interface Provided {
  readonly cid: CID;
  /** How many peers we had when we last announced it. */
  told: number;
  /** Not announced before, by `performance.now()`. */
  at: number;
}

/** A site's nodes come up one after the other: each of them is no reason to tell all of them again. */
function worthTelling(told: number, peers: number): boolean {
  return peers >= 2 * told && peers > 0 && told < ENOUGH_PEERS;
}
