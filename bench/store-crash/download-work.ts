import type { PackStore } from '../../src/store/pack-store.ts';
import type { Swarm } from '../../src/swarm/swarm.ts';
import type { Artifact } from './artifact.ts';
import type { Work } from './crash.ts';
import { openNode, PEERS } from './pair.ts';
import type { Random } from './random.ts';
import { Withholding } from './withholding.ts';
import { Worker } from './worker.ts';

/**
 * Downloads: the process gets the artifact over libp2p from one swarm, here, that outlives them all. To a doomed one it
 * owes one chunk.
 */
export class DownloadWork implements Work, AsyncDisposable {
  readonly name = 'download';
  readonly artifact: Artifact;
  readonly #store: Withholding;
  readonly #swarm: Swarm;

  private constructor(artifact: Artifact, store: Withholding, swarm: Swarm) {
    this.artifact = artifact;
    this.#store = store;
    this.#swarm = swarm;
  }

  /** `store` holds the artifact. */
  static async open(artifact: Artifact, store: PackStore): Promise<DownloadWork> {
    const withholding = new Withholding(store);
    const swarm = await openNode('seed', withholding);
    await swarm.share(artifact.manifest.set);
    return new DownloadWork(artifact, withholding, swarm);
  }

  startDoomed(
    directory: string,
    { random, signal }: { readonly random: Random; readonly signal: AbortSignal },
  ): Worker {
    const { chunks } = this.artifact.manifest.set;
    const owed = chunks[Math.floor(random() * chunks.length)];
    if (owed) this.#store.withhold(owed.cid);
    return this.#start(directory, signal);
  }

  resume(directory: string, { signal }: { readonly signal: AbortSignal }): Worker {
    this.#store.release();
    return this.#start(directory, signal);
  }

  /** Chunk bytes that the swarm has sent so far. */
  fetched(): number {
    return this.#swarm.peers().find(({ peerId }) => peerId === PEERS.downloader)?.bytesOut ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#store.release();
    await this.#swarm[Symbol.asyncDispose]();
  }

  #start(directory: string, signal: AbortSignal): Worker {
    const [address] = this.#swarm.addresses();
    const root = this.artifact.manifest.cid.toString();
    return new Worker('downloader.ts', directory, [root, address ?? ''], { keepOpen: true, signal });
  }
}
