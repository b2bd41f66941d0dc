import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Log } from '../observe/log.ts';
import type { Channels } from '../release/channels.ts';
import type { FleetKeys } from '../release/fleet-keys.ts';
import { EXPIRY_DAYS, renew } from '../release/publisher.ts';

interface Deps {
  readonly keys: FleetKeys;
  /** The publisher's own TUF repository. */
  readonly repository: string;
  readonly channels: Channels;
  /** Milliseconds since 1970. */
  now(): number;
  readonly log: Log;
}

const DAY_MS = 86_400_000;
const EVERY_MS = 6 * 3_600_000;
/** What the fleet says of its membership is looked at this often: an issuer that was added should count at once. */
const LOOK_MS = 3_000;
/** Signed anew when a third of the timestamp's life is over, so that two thirds are left to mend what prevents it. */
const LEFT_MS = (EXPIRY_DAYS.timestamp * DAY_MS * 2) / 3;

/**
 * On a node that publishes: keeps the signed state from expiring while nothing new is published, and publishes what the
 * keys' directory says of membership. All that signs in this process takes turns here.
 */
export class Renewal implements AsyncDisposable {
  readonly #deps: Deps;
  readonly #over = new AbortController();
  #turns: Promise<unknown> = Promise.resolve();
  #running: Promise<void> = Promise.resolve();
  #lookedAt = Number.NEGATIVE_INFINITY;

  private constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** What is due now is done when it resolves, or told in the log. */
  static async open(deps: Deps): Promise<Renewal> {
    const renewal = new Renewal(deps);
    await renewal.#look();
    renewal.#running = renewal.#run();
    return renewal;
  }

  /** Runs `work` when nothing else in this process signs. */
  async exclusive<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turns.then(work);
    this.#turns = done.catch(() => undefined);
    return await done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#over;
    while (!signal.aborted) {
      await delay(LOOK_MS, undefined, { signal, ref: false }).catch(() => undefined);
      if (!signal.aborted) await this.#look();
    }
  }

  async #look(): Promise<void> {
    const { log } = this.#deps;
    await this.exclusive(() => this.#renewIfDue()).catch((error: unknown) => {
      if (!this.#over.signal.aborted) log.error('release metadata cannot be signed anew', { error });
    });
  }

  async #renewIfDue(): Promise<void> {
    const { keys, repository, channels, now, log } = this.#deps;
    const trust = await keys.trust();
    const said = trust === undefined || isDeepStrictEqual(trust, channels.trust);
    if (said && !this.#isAging()) return;
    await renew({ keys, directory: repository }, { clock: now });
    await channels.adopt(repository, { signal: this.#over.signal });
    log.info(said ? 'release metadata signed anew' : 'trust list published', { days: EXPIRY_DAYS.timestamp });
  }

  /** Looked at seldom. */
  #isAging(): boolean {
    if (performance.now() - this.#lookedAt < EVERY_MS) return false;
    this.#lookedAt = performance.now();
    const { channels, now } = this.#deps;
    return channels.expires !== undefined && channels.expires - now() <= LEFT_MS;
  }
}
