import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../observe/log.ts';
import type { Channels } from '../release/channels.ts';
import type { FleetKeys } from '../release/fleet-keys.ts';
import { EXPIRY_DAYS, renew } from '../release/publisher.ts';

interface Deps {
  readonly keys: FleetKeys;
  /** The publisher's own TUF repository. */
  readonly repository: string;
  readonly channels: Channels;
  readonly log: Log;
}

const DAY_MS = 86_400_000;
const EVERY_MS = 6 * 3_600_000;
/** Signed anew when a third of the timestamp's life is over, so that two thirds are left to mend what prevents it. */
const LEFT_MS = (EXPIRY_DAYS.timestamp * DAY_MS * 2) / 3;

/** On a node that publishes: keeps the signed state from expiring while nothing new is published. */
export class Renewal implements AsyncDisposable {
  readonly #deps: Deps;
  readonly #over = new AbortController();
  readonly #running: Promise<void>;

  constructor(deps: Deps) {
    this.#deps = deps;
    this.#running = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#over;
    const { log } = this.#deps;
    while (!signal.aborted) {
      await this.#renewIfDue().catch((error) => log.error('release metadata cannot be signed anew', { error }));
      await delay(EVERY_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #renewIfDue(): Promise<void> {
    const { keys, repository, channels, log } = this.#deps;
    const [release] = channels.list();
    if (release === undefined || release.expires - Date.now() > LEFT_MS) return;
    await renew({ keys, directory: repository });
    await channels.adopt(repository, { signal: this.#over.signal });
    log.info('release metadata signed anew', { days: EXPIRY_DAYS.timestamp });
  }
}
