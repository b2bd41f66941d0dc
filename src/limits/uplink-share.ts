/**
 * Milliseconds from when a node says that it uses the site's uplink until it does: a second, which is what a cap is
 * measured over, and the time that its word takes to reach the others.
 */
const HOLD_MS = 1500;

/**
 * The part of its site's uplink that one node may use: the cap divided by the nodes that use it, as far as this node
 * has heard. The shares of all of them never add up to more than the cap, although they hear of each other at
 * different times: a share shrinks as soon as another user is heard of, and grows only when the smaller number of
 * users has stood for `HOLD_MS`; a node that begins to use the uplink says so, and waits as long before it does.
 * That holds while a word takes less than half a second from node to node, and not between nodes of a site that
 * cannot reach each other.
 *
 * Pure: times are milliseconds of any clock that does not go back.
 */
export class UplinkShare {
  readonly #cap: number;
  #since: number | undefined;
  #users = 1;
  /** Larger numbers of users that stood before, each until it no longer counts. */
  #before: { readonly users: number; readonly until: number }[] = [];

  /** @param cap bytes per second of the whole site */
  constructor(cap: number) {
    this.#cap = cap;
  }

  /** The same users under another cap. */
  withCap(cap: number): UplinkShare {
    const other = new UplinkShare(cap);
    other.#since = this.#since;
    other.#users = this.#users;
    other.#before = this.#before;
    return other;
  }

  /**
   * What this node knows now: whether it uses the uplink itself, how many others do, and whether there is anybody who
   * could (a node that is alone need not wait).
   */
  update(view: { readonly uses: boolean; readonly others: number; readonly alone: boolean }, now: number): void {
    if (!view.uses) this.#since = undefined;
    else this.#since ??= view.alone ? Number.NEGATIVE_INFINITY : now;
    const users = view.others + 1;
    if (users < this.#users) this.#before.push({ users: this.#users, until: now + HOLD_MS });
    this.#before = this.#before.filter((one) => one.until > now && one.users > users);
    this.#users = users;
  }

  /** Bytes per second that this node may move across the uplink now. */
  limit(now: number): number {
    if (this.#cap === Number.POSITIVE_INFINITY) return this.#cap;
    if (this.#since === undefined || now - this.#since < HOLD_MS) return 0;
    const before = this.#before.filter(({ until }) => until > now).map(({ users }) => users);
    return this.#cap / Math.max(this.#users, ...before);
  }
}
