import type { CID } from 'multiformats/cid';
import type { Log } from '../observe/log.ts';
import type { SwarmNode } from './node.ts';

/** One walk through the DHT, milliseconds. */
const WALK_MS = 8_000;
/** Providers looked at per walk. */
const MAX_PROVIDERS = 8;
/** Names that we announce; the DHT republishes them by itself once they are told. */
const MAX_PROVIDED = 1024;
/** After a connection, more are awaited for this long before we announce again, milliseconds. */
const REPROVIDE_PAUSE_MS = 500;
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
  /** What we announce, and how many peers we had when we last did. */
  readonly #provided = new Map<string, { readonly cid: CID; told: number }>();
  #announcing = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  constructor(deps: { readonly node: SwarmNode; readonly log: Log; admits(peerId: string): boolean }) {
    this.#node = deps.node;
    this.#log = deps.log;
    this.#admits = deps.admits;
  }

  /** Says in the DHT that we hold (part of) `cid`. Fails quietly: connected peers know without it. */
  provide(cid: CID): void {
    const key = cid.toString();
    if (this.#provided.has(key) || this.#provided.size >= MAX_PROVIDED) return;
    this.#provided.set(key, { cid, told: 0 });
    this.#announceSoon();
  }

  withdraw(cid: CID): void {
    if (this.#provided.delete(cid.toString())) void this.#node.services.dht.cancelReprovide(cid).catch(() => undefined);
  }

  /** There is somebody more to tell. */
  connected(): void {
    this.#announceSoon();
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

  #announceSoon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#announcing = this.#announcing.then(() => this.#announce());
    }, REPROVIDE_PAUSE_MS).unref();
  }

  /** Tells the peers nearest to each name, one name after the other: a walk each. */
  async #announce(): Promise<void> {
    for (const [key, entry] of [...this.#provided]) {
      const peers = Math.min(this.#node.getPeers().length, ENOUGH_PEERS);
      if (this.#abort.signal.aborted || entry.told >= peers || !this.#provided.has(key)) continue;
      try {
        for await (const _ of this.#node.services.dht.provide(entry.cid, { signal: this.#signal() }));
        entry.told = peers;
      } catch (error) {
        this.#log.debug('not announced in the dht', { cid: key, error });
      }
    }
  }

  #signal(other?: AbortSignal): AbortSignal {
    return AbortSignal.any([this.#abort.signal, AbortSignal.timeout(WALK_MS), ...(other ? [other] : [])]);
  }
}
