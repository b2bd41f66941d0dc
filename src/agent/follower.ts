import { setTimeout as delay } from 'node:timers/promises';
import { CID } from 'multiformats/cid';
import type { Log } from '../observe/log.ts';
import type { Channels } from '../release/channels.ts';
import { artifactsOf } from '../release/release.ts';
import type { VerifiedRelease } from '../release/trusted-state.ts';
import type { Pins } from '../store/pins.ts';
import type { Artifacts } from './artifacts.ts';
import { outdatedPins, releasePin, releasePins } from './release-pin.ts';

const RETRY_MS = { first: 1_000, most: 30_000 } as const;

/** How far a followed channel's newest release has come on this node. */
export interface Following {
  readonly channel: string;
  /** Newest verified. */
  readonly newest: VerifiedRelease | undefined;
  /** Newest that is complete here: what machines are booted from. */
  readonly held: VerifiedRelease | undefined;
  /** Bytes of the newest that are here, and in all; undefined until its manifests are. */
  readonly progress: { readonly bytes: number; readonly total: number } | undefined;
}

interface Deps {
  readonly channels: Channels;
  readonly artifacts: Artifacts;
  readonly pins: Pins;
  readonly log: Log;
}

/**
 * Keeps the newest release of each followed channel on this node. While it arrives, and after a restart, machines boot
 * from the one that is complete; that one and the one before it stay as well.
 */
export class Follower implements AsyncDisposable {
  readonly #deps: Deps;
  readonly #log: Log;
  readonly #following = new Map<string, Following>();
  readonly #fetching = new Map<string, { readonly stop: AbortController; readonly done: Promise<void> }>();
  readonly #looked = new Map<string, PromiseWithResolvers<void>>();
  readonly #over = new AbortController();
  readonly #unsubscribe: () => void;

  constructor(deps: Deps, followed: readonly string[]) {
    this.#deps = deps;
    this.#log = deps.log.with({ room: 'agent' });
    for (const channel of followed) {
      this.#following.set(channel, { channel, newest: undefined, held: undefined, progress: undefined });
    }
    this.#unsubscribe = deps.channels.on('release:new', (release) => this.#take(release));
    for (const channel of followed) {
      const release = deps.channels.current(channel);
      if (release === undefined) continue;
      // Believed to be complete until the store has been looked through.
      const held = deps.channels.held(channel);
      if (held?.digest !== release.digest) this.#set(channel, { held });
      this.#looked.set(channel, Promise.withResolvers());
      this.#take(release);
    }
  }

  follows(channel: string): boolean {
    return this.#following.has(channel);
  }

  following(channel: string): Following | undefined {
    return this.#following.get(channel);
  }

  list(): readonly Following[] {
    return [...this.#following.values()];
  }

  /** Resolves when the store has been looked through for the releases that were known at the start. */
  async looked(): Promise<void> {
    await Promise.all([...this.#looked.values()].map(({ promise }) => promise));
  }

  /** What machines of this channel get: the newest release that is complete here, else the newest there is. */
  serving(channel: string): VerifiedRelease | undefined {
    const following = this.#following.get(channel);
    return following?.held ?? following?.newest;
  }

  /** A chunk of `artifact` was lost: whatever names it is fetched again. */
  refetch(artifact: CID): void {
    for (const { newest, held } of this.#following.values()) {
      if (newest !== undefined && names(newest, artifact)) this.#take(newest);
      else if (held !== undefined && names(held, artifact)) void this.#mend(artifact);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unsubscribe();
    this.#over.abort(new Error('the agent stops'));
    await Promise.all([...this.#fetching.values()].map(({ done }) => done));
  }

  #take(release: VerifiedRelease): void {
    const following = this.#following.get(release.channel);
    if (following === undefined || this.#over.signal.aborted) return;
    if ((following.newest?.version ?? 0) > release.version) return;
    this.#set(release.channel, { newest: release, progress: undefined });
    const before = this.#fetching.get(release.channel);
    before?.stop.abort(new Error('a newer release is there'));
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, this.#over.signal]);
    const ready = before?.done ?? this.#recall(release.channel);
    const done = ready.then(() => this.#fetchUntilHeld(release, signal));
    this.#fetching.set(release.channel, { stop, done: done.catch(() => undefined) });
  }

  /** Of the release that machines boot from while a newer one arrives. */
  async #mend(artifact: CID): Promise<void> {
    const { signal } = this.#over;
    await this.#deps.artifacts.fetch(artifact, { signal }).catch((error) => {
      if (!signal.aborted) this.#log.warn('artifact cannot be mended', { cid: artifact.toString(), error });
    });
  }

  /** What was complete here before this agent started, when that is not the newest. */
  async #recall(channel: string): Promise<void> {
    const { artifacts } = this.#deps;
    const release = this.#following.get(channel)?.held;
    if (release === undefined) return;
    const { signal } = this.#over;
    const whole = async () => {
      for (const [, { cid }] of artifactsOf(release.release)) {
        if (!(await artifacts.isWhole(CID.parse(cid), { signal }))) return false;
      }
      return true;
    };
    const { version } = release;
    const held = await whole().catch((error) => {
      this.#log.warn('release cannot be looked through', { channel, version, error });
      return false;
    });
    if (!held) this.#set(channel, { held: undefined });
    this.#log.info('release of the last run', { channel, version, complete: held });
  }

  async #fetchUntilHeld(release: VerifiedRelease, signal: AbortSignal): Promise<void> {
    for (let wait: number = RETRY_MS.first; !signal.aborted; wait = Math.min(wait * 2, RETRY_MS.most)) {
      try {
        return await this.#fetch(release, signal);
      } catch (error) {
        if (signal.aborted) return;
        const { channel, version } = release;
        this.#log.warn('release cannot be fetched yet', { channel, version, error, retryMs: wait });
        await delay(wait, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #fetch(release: VerifiedRelease, signal: AbortSignal): Promise<void> {
    const { channel, version } = release;
    const { artifacts, pins } = this.#deps;
    const wanted = artifactsOf(release.release).map(([role, artifact]) => ({ role, cid: CID.parse(artifact.cid) }));
    // Pinned first, so that nothing of it is evicted while the rest arrives.
    for (const { role, cid } of wanted) await pins.pin(releasePin({ channel, version, role }), cid);
    await this.#dropOutdated(channel);
    const manifests = await Promise.all(wanted.map(({ cid }) => artifacts.manifest(cid, { signal })));
    const total = manifests.reduce((sum, manifest) => sum + manifest.set.bytes, 0);
    const bytes = await Promise.all(manifests.map((manifest) => artifacts.heldBytes(manifest)));
    const report = () => {
      this.#set(channel, { progress: { bytes: bytes.reduce((sum, each) => sum + each, 0), total } });
    };
    report();
    this.#looked.get(channel)?.resolve();
    const started = performance.now();
    const fetchOne = async (manifest: (typeof manifests)[number], index: number) => {
      const onProgress = (done: { bytes: number }) => {
        bytes[index] = done.bytes;
        report();
      };
      await artifacts.fetch(manifest.cid, { signal, onProgress });
      onProgress({ bytes: manifest.set.bytes });
    };
    await Promise.all(manifests.map(fetchOne));
    await this.#deps.channels.hold(release);
    this.#set(channel, { held: release });
    const seconds = Math.round(performance.now() - started) / 1000;
    this.#log.info('release is held', { channel, version, bytes: total, seconds });
    await this.#dropOutdated(channel);
  }

  async #dropOutdated(channel: string): Promise<void> {
    const { pins, artifacts } = this.#deps;
    const following = this.#following.get(channel);
    if (following?.newest === undefined) return;
    const [newest, held] = [following.newest.version, following.held?.version];
    for (const pin of outdatedPins(releasePins(pins), { channel, newest, held })) {
      await pins.unpin(pin.name);
      const still = pins.list().some((other) => other.cid.equals(pin.cid));
      if (!still) await artifacts.forget(pin.cid);
    }
  }

  #set(channel: string, change: Partial<Following>): void {
    const following = this.#following.get(channel);
    if (following !== undefined) this.#following.set(channel, { ...following, ...change });
  }
}

function names({ release }: VerifiedRelease, artifact: CID): boolean {
  const cid = artifact.toString();
  return artifactsOf(release).some(([, each]) => each.cid === cid);
}
