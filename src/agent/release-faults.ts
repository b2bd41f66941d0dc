import type { FaultLine } from '../admin/results.ts';
import type { Channels } from '../release/channels.ts';

interface Deps {
  readonly channels: Channels;
  /** This peer told a lie. */
  readonly blame: (peerId: string) => void;
  /** Milliseconds of the epoch. @default Date.now */
  readonly clock?: () => number;
}

/** Faults remembered; beyond, the one that was not seen for longest goes. */
const MAX_FAULTS = 64;

/** Remembers since the start what was wrong with release metadata, for `status`, and blames the peers that lied. */
export class ReleaseFaults implements Disposable {
  readonly #faults = new Map<string, FaultLine>();
  readonly #clock: () => number;
  readonly #subscriptions: readonly (() => void)[];

  constructor({ channels, blame, clock = Date.now }: Deps) {
    this.#clock = clock;
    this.#subscriptions = [
      channels.on('release:fork', ({ version, from }) => this.#note('fork', from, `version ${version}`)),
      channels.on('release:refuse', ({ peer, document, reason }) => {
        const kind = reason === 'rollback' ? 'rollback' : 'refused';
        this.#note(kind, peer, `${document}: ${reason}`);
        if (kind === 'refused') blame(peer);
      }),
    ];
  }

  /** The latest last. */
  list(): readonly FaultLine[] {
    return [...this.#faults.values()];
  }

  [Symbol.dispose](): void {
    for (const unsubscribe of this.#subscriptions) unsubscribe();
  }

  #note(kind: FaultLine['kind'], peerId: string, what: string): void {
    const key = `${kind} ${peerId} ${what}`;
    const count = (this.#faults.get(key)?.count ?? 0) + 1;
    this.#faults.delete(key);
    this.#faults.set(key, { kind, peerId, what, count, lastAt: new Date(this.#clock()).toISOString() });
    const [oldest] = this.#faults.keys();
    if (this.#faults.size > MAX_FAULTS && oldest !== undefined) this.#faults.delete(oldest);
  }
}
