import type { CID } from 'multiformats/cid';
import { chunkKey } from '../content/chunk.ts';
import type { ChunkSource, GetOptions } from '../content/chunk-source.ts';
import { type Manifest, readManifest } from '../content/manifest.ts';
import { Likeness, MAX_LIKE_CHUNKS, readAll } from './likeness.ts';

/** Artifacts that are looked at for one that has something in common with a wanted one. */
const MAX_CANDIDATES = 16;

interface Deps {
  /** What is here, and nothing that might fetch. Verifies. */
  readonly store: ChunkSource;
  /** Artifacts that are here, likeliest to be like `wanted` first; the first is its version before where there is one. */
  candidates(wanted: CID): readonly CID[];
}

/** Chunks that are here, and their bytes one after the other. */
interface Alike {
  readonly names: readonly CID[];
  readonly from: Pick<Likeness, 'read'>;
}

/** What is here of earlier versions, to fetch the next one by what is new in it. */
export class OldVersions {
  readonly #deps: Deps;
  /** Manifest nodes that are being asked for, and what they are like. */
  readonly #nodes = new Map<string, readonly CID[]>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** The artifact that shares most chunks with `wanted`, compared with it; undefined when none shares any. */
  async like(wanted: Manifest, { signal }: GetOptions): Promise<Likeness | undefined> {
    let best: Likeness | undefined;
    for (const cid of this.#candidates(wanted.cid)) {
      const old = await this.#manifest(cid, signal);
      const next = old && Likeness.between(wanted, { leaves: old.leaves, source: this.#deps.store });
      if (next !== undefined && next.ties > (best?.ties ?? 0)) best = next;
    }
    return best;
  }

  /**
   * `source` for the manifest nodes of `wanted`, as `readManifest` asks for them, in order: each is taken to be like
   * those in the same place of the version before, and `likeNode` says so while it is asked for.
   */
  async nodes(wanted: CID, source: ChunkSource, { signal }: GetOptions): Promise<ChunkSource> {
    const [before] = this.#candidates(wanted);
    const old = before && (await this.#manifest(before, signal));
    if (old === undefined) return source;
    // As `readManifest` asks for them; `importFile` has the root last.
    const rest = old.nodes.filter((node) => !node.equals(old.cid));
    let asked = 0;
    return {
      get: async (cid, options) => {
        const place = asked++;
        const around = Math.max(0, place - 2);
        this.#nodes.set(chunkKey(cid), place === 0 ? [old.cid] : rest.slice(around, around + MAX_LIKE_CHUNKS));
        try {
          return await source.get(cid, options);
        } finally {
          this.#nodes.delete(chunkKey(cid));
        }
      },
    };
  }

  likeNode(cid: CID): Alike | undefined {
    const names = this.#nodes.get(chunkKey(cid));
    return names && { names, from: { read: (asked, options) => readAll(this.#deps.store, asked, options) } };
  }

  #candidates(wanted: CID): readonly CID[] {
    const candidates = this.#deps.candidates(wanted).filter((cid) => !cid.equals(wanted));
    return candidates.slice(0, MAX_CANDIDATES);
  }

  /** Undefined when some of it is not here: it is no use then. */
  async #manifest(cid: CID, signal: AbortSignal): Promise<Manifest | undefined> {
    const manifest = await readManifest(cid, this.#deps.store, { signal }).catch(() => undefined);
    signal.throwIfAborted();
    return manifest;
  }
}
