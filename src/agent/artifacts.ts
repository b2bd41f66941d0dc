import type { CID } from 'multiformats/cid';
import { cached } from '../content/cached.ts';
import { chunkKey } from '../content/chunk.ts';
import type { ChunkSource } from '../content/chunk-source.ts';
import { coalesced } from '../content/coalesced.ts';
import { firstOf } from '../content/first-of.ts';
import { httpOrigin } from '../content/http-origin.ts';
import { type Manifest, readManifest } from '../content/manifest.ts';
import { readArtifact } from '../content/read-artifact.ts';
import { verified } from '../content/verified.ts';
import type { Likeness } from '../delta/likeness.ts';
import { OldVersions } from '../delta/old-versions.ts';
import type { Log } from '../observe/log.ts';
import type { PackStore } from '../store/pack-store.ts';
import type { Swarm } from '../swarm/swarm.ts';
import { likelyAlike } from './release-pin.ts';

/** Manifests kept in memory; a fleet's channels name far fewer artifacts. */
const MANIFESTS = 256;

interface FetchOptions {
  readonly signal: AbortSignal;
  /** foreground: somebody waits for it. @default 'background' */
  readonly priority?: 'foreground' | 'background';
  readonly onProgress?: (progress: { readonly bytes: number; readonly total: number }) => void;
}

interface CompareOptions {
  readonly signal: AbortSignal;
  /** Local files that may be like it. @default none */
  readonly seeds?: readonly Likeness[];
}

/** A file that can be read while it is still arriving. */
export interface OpenArtifact {
  readonly size: number;
  read(range: { start?: number; end?: number; signal: AbortSignal }): AsyncIterable<Uint8Array>;
}

/** Artifacts by CID, whoever has their chunks: this store first, then the swarm, then an HTTP origin. */
export class Artifacts {
  readonly #store: PackStore;
  readonly #swarm: Swarm;
  readonly #log: Log;
  readonly #manifests = new Map<string, Manifest>();
  readonly #sources = new Map<string, ChunkSource>();
  readonly #complete = new Set<string>();
  readonly #nodes: ChunkSource;
  readonly #old: OldVersions;

  constructor(deps: { store: PackStore; swarm: Swarm; log: Log }) {
    this.#store = deps.store;
    this.#swarm = deps.swarm;
    this.#log = deps.log.with({ room: 'agent' });
    this.#old = new OldVersions({
      store: deps.store,
      candidates: (wanted) => likelyAlike(deps.store.pins, wanted),
    });
    const blocks: ChunkSource = {
      get: (cid, { signal }) => deps.swarm.blocks.get(cid, { signal, like: this.#old.likeNode(cid) }),
    };
    this.#nodes = cached(deps.store, coalesced(verified(blocks, 'swarm')));
  }

  /** The manifest `cid` names. Rejects as `readManifest` does. */
  async manifest(cid: CID, { signal }: { signal: AbortSignal }): Promise<Manifest> {
    const key = cid.toString();
    const known = this.#manifests.get(key);
    if (known !== undefined) return known;
    const nodes = await this.#old.nodes(cid, this.#nodes, { signal });
    const manifest = await readManifest(cid, nodes, { signal });
    this.#remember(manifest);
    return manifest;
  }

  /**
   * While the handle is not disposed of, what is missing of the artifact is asked for compressed against what of
   * earlier versions here, or of `seeds`, it is like. Undefined when nothing is missing, or nothing is like it.
   */
  async compare(manifest: Manifest, { signal, seeds = [] }: CompareOptions): Promise<Disposable | undefined> {
    if ((await this.heldBytes(manifest)) === manifest.set.bytes) return undefined;
    const old = await this.#old.like(manifest, { signal });
    const [best] = [...seeds, ...(old ? [old] : [])].sort((a, b) => b.ties - a.ties);
    return best && (await this.#swarm.liken(manifest.set, best));
  }

  /** A file just imported: everything of it is here. */
  async imported(manifest: Manifest): Promise<void> {
    using _held = this.#store.hold(manifest.set);
    this.#remember(manifest);
    this.#complete.add(manifest.cid.toString());
    await this.#swarm.share(manifest.set);
  }

  /** Bytes of the artifact's distinct chunks that are in the store. */
  async heldBytes({ set }: Manifest): Promise<number> {
    const held = await Promise.all(set.chunks.map(async ({ cid, size }) => ((await this.#store.has(cid)) ? size : 0)));
    return held.reduce((sum, size) => sum + size, 0);
  }

  /** Looks whether every chunk of the artifact is in the store, its manifest included; asks nobody. */
  async isWhole(cid: CID, { signal }: { signal: AbortSignal }): Promise<boolean> {
    const manifest = await readManifest(cid, this.#store, { signal }).catch((error) => {
      signal.throwIfAborted();
      this.#log.debug('manifest is not here', { cid: cid.toString(), error });
      return undefined;
    });
    if (manifest === undefined) return false;
    using _held = this.#store.hold(manifest.set);
    if ((await this.heldBytes(manifest)) < manifest.set.bytes) return false;
    await this.imported(manifest);
    return true;
  }

  /** True when every chunk of the artifact was here the last time anybody looked. */
  isComplete(cid: string): boolean {
    return this.#complete.has(cid);
  }

  /** Brings the whole artifact into the store, serving what has arrived on the way. */
  async fetch(cid: CID, options: FetchOptions): Promise<Manifest> {
    using held = await this.#hold(cid, options);
    const { manifest } = held;
    await this.#swarm.share(manifest.set);
    const { signal, priority = 'background', onProgress } = options;
    using _compared = await this.compare(manifest, { signal });
    const total = manifest.set.bytes;
    const progress = onProgress && ((done: { bytes: number }) => onProgress({ bytes: done.bytes, total }));
    await this.#swarm.download(manifest.set, { priority, signal, ...(progress && { onProgress: progress }) });
    await this.#store.flush();
    this.#complete.add(cid.toString());
    return manifest;
  }

  /**
   * Opens an artifact for reading; whether it may be served is the caller's question. `origin`: an `http(s)://` URL of
   * the same file, asked for what the swarm does not have.
   */
  async open(
    cid: CID,
    { signal, origin }: { signal: AbortSignal; origin?: string | undefined },
  ): Promise<OpenArtifact> {
    using held = await this.#hold(cid, { signal });
    const { manifest } = held;
    await this.#swarm.share(manifest.set);
    const source = origin === undefined ? this.#source(manifest) : this.#ladder(manifest, origin);
    return { size: manifest.size, read: (range) => this.#read(manifest, source, range) };
  }

  /** The manifest, of which nothing is evicted until the answer is disposed of: neither its chunks nor its own nodes. */
  async #hold(cid: CID, options: { signal: AbortSignal }): Promise<{ manifest: Manifest } & Disposable> {
    for (;;) {
      const manifest = await this.manifest(cid, options);
      const held = this.#store.hold(manifest.set);
      if (this.#manifests.get(cid.toString()) === manifest) {
        return { manifest, [Symbol.dispose]: () => held[Symbol.dispose]() };
      }
      // Its nodes were evicted a moment before.
      held[Symbol.dispose]();
    }
  }

  /** Nothing of it is evicted while somebody reads. */
  async *#read(manifest: Manifest, source: ChunkSource, range: Parameters<OpenArtifact['read']>[0]) {
    using _held = this.#store.hold(manifest.set);
    yield* readArtifact(manifest, source, range);
  }

  /** These chunks are in the store no longer. Returns the artifacts that were complete until now. */
  lost(chunks: readonly CID[]): CID[] {
    for (const chunk of chunks) this.#swarm.lost(chunk);
    const keys = new Set(chunks.map(chunkKey));
    const all = [...this.#manifests.values()];
    const hit = all.filter(({ cid, set, nodes }) => {
      if (!this.#complete.has(cid.toString())) return false;
      return [...nodes, ...set.chunks.map((chunk) => chunk.cid)].some((each) => keys.has(chunkKey(each)));
    });
    for (const { cid } of hit) this.#complete.delete(cid.toString());
    // What is read anew is stored anew: others ask for the nodes, and GC finds by them what a pin keeps.
    for (const { cid, nodes } of all) if (nodes.some((node) => keys.has(chunkKey(node)))) this.#dismiss(cid);
    return hit.map(({ cid }) => cid);
  }

  /** No pin or release names it any more. */
  async forget(cid: CID): Promise<void> {
    this.#dismiss(cid);
    this.#complete.delete(cid.toString());
    await this.#swarm.unshare(cid);
  }

  #source(manifest: Manifest): ChunkSource {
    const key = manifest.cid.toString();
    const known = this.#sources.get(key);
    if (known !== undefined) return known;
    const source = this.#ladder(manifest);
    this.#sources.set(key, source);
    return source;
  }

  #ladder(manifest: Manifest, origin?: string): ChunkSource {
    const swarm = verified(this.#swarm.source(manifest.set), 'swarm');
    const sources = origin === undefined ? [swarm] : [swarm, verified(httpOrigin(origin, manifest), origin)];
    return cached(this.#store, coalesced(firstOf(sources)));
  }

  #dismiss(cid: CID): void {
    this.#manifests.delete(cid.toString());
    this.#sources.delete(cid.toString());
  }

  #remember(manifest: Manifest): void {
    for (const oldest of this.#manifests.keys()) {
      if (this.#manifests.size < MANIFESTS) break;
      this.#manifests.delete(oldest);
      this.#sources.delete(oldest);
      this.#log.debug('manifest dropped from memory', { cid: oldest });
    }
    this.#manifests.set(manifest.cid.toString(), manifest);
  }
}
