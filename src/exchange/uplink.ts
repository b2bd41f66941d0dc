import type { Link } from './link.ts';
import type { Message } from './message.ts';
import type { Throttles } from './throttle.ts';

interface Deps {
  readonly throttles: Throttles;
  /** Links to the site's nodes. */
  neighbours(): Link[];
  /** No other node of the site is expected to be up. */
  alone(): boolean;
  /** A download goes on that may take from outside. */
  fetching(): boolean;
}

type Use = Omit<Extract<Message, { kind: 'uplink' }>, 'kind'>;

/** A node that moved nothing across the uplink for this long does not use it any more, milliseconds. */
const LINGER_MS = 2_000;

/** Tells the neighbours whether this node uses the site's uplink, and its throttles how many of them do. */
export class Uplink {
  readonly #deps: Deps;
  readonly #heard = new Map<Link, Use>();
  #said: Use = { down: false, up: false };

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Called several times a second. */
  look(): void {
    const { down, up } = this.#deps.throttles;
    const capped = { down: down.limits.site !== undefined, up: up.limits.site !== undefined };
    if (!capped.down && !capped.up && !this.#said.down && !this.#said.up) return;
    const use = {
      down: capped.down && (this.#deps.fetching() || down.usedUplink(LINGER_MS)),
      up: capped.up && up.usedUplink(LINGER_MS),
    };
    if (use.down !== this.#said.down || use.up !== this.#said.up) {
      this.#said = use;
      for (const link of this.#deps.neighbours()) link.send({ kind: 'uplink', ...use });
    }
    this.#share();
  }

  heard(link: Link, { down, up }: Use): void {
    if (!link.near) return;
    this.#heard.set(link, { down, up });
    this.#share();
  }

  met(link: Link): void {
    if (link.near && (this.#said.down || this.#said.up)) link.send({ kind: 'uplink', ...this.#said });
  }

  left(link: Link): void {
    this.#heard.delete(link);
    this.#share();
  }

  #share(): void {
    const alone = this.#deps.neighbours().length === 0 && this.#deps.alone();
    for (const way of ['down', 'up'] as const) {
      const others = [...this.#heard.values()].filter((use) => use[way]).length;
      this.#deps.throttles[way].heard({ uses: this.#said[way], others, alone });
    }
  }
}
