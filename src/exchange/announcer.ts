import type { Link } from './link.ts';
import type { LocalSet } from './local-set.ts';

export interface AnnouncerDeps {
  links(): readonly Link[];
  /** We see a holder of the set outside our site. */
  outside(local: LocalSet): boolean;
  /** How late this process has been lately, milliseconds. */
  lateMs(): number;
}

/** Tells the peers that want a set what is new about ours, when `News` says that it is time to. */
export class Announcer implements Disposable {
  readonly #deps: AnnouncerDeps;
  readonly #dirty = new Set<LocalSet>();
  /** Sets whose news already wait for the timer: more of them do not make it earlier. */
  readonly #armed = new Set<LocalSet>();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(deps: AnnouncerDeps) {
    this.#deps = deps;
  }

  /** There is something to say about the set, or will be: a download has to be heard of now and then. */
  changed(local: LocalSet): void {
    if (this.#armed.has(local)) return;
    this.#dirty.add(local);
    const { near, far } = this.#audience(local);
    // Who joins the audience may have to hear it earlier.
    if (local.news.waiting && near.length > 0) this.#armed.add(local);
    this.#wakeAt(Math.min(this.#nearAt(local, near), local.news.farAt(far.length)));
  }

  /** The neighbours hear it at once. */
  hurry(local: LocalSet): void {
    this.#armed.delete(local);
    this.#tell(local.changes('near', this.#deps.outside(local)), this.#audience(local).near);
    this.changed(local);
  }

  forget(local: LocalSet): void {
    this.#dirty.delete(local);
    this.#armed.delete(local);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#dirty.clear();
  }

  #wakeAt(at: number): void {
    if (at >= this.#timerAt || at === Number.POSITIVE_INFINITY) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => this.#announce(), Math.max(1, Math.ceil(at - performance.now()))).unref();
  }

  #announce(): void {
    this.#timerAt = Number.POSITIVE_INFINITY;
    const now = performance.now();
    this.#armed.clear();
    for (const local of [...this.#dirty]) {
      const { near, far } = this.#audience(local);
      const { news } = local;
      const outside = this.#deps.outside(local);
      if (this.#nearAt(local, near) <= now) this.#tell(local.changes('near', outside), near);
      if (news.farAt(far.length) <= now) this.#tell(local.changes('far', outside), far);
      const next = Math.min(this.#nearAt(local, near), news.farAt(far.length));
      if (next === Number.POSITIVE_INFINITY) this.#dirty.delete(local);
      else this.#wakeAt(next);
    }
  }

  #nearAt(local: LocalSet, near: readonly Link[]): number {
    return local.news.nearAt(near.length, local.wanted, this.#deps.lateMs());
  }

  #audience(local: LocalSet): { readonly near: readonly Link[]; readonly far: readonly Link[] } {
    const wanting = this.#deps.links().filter((link) => link.sets.get(local.key)?.wants);
    return { near: wanting.filter((link) => link.near), far: wanting.filter((link) => !link.near) };
  }

  /** Each message is one object for all links, which encode it once. */
  #tell(messages: ReturnType<LocalSet['changes']>, links: readonly Link[]): void {
    for (const message of messages) for (const link of links) link.send(message);
  }
}
