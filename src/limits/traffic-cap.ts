import { RateCap } from './rate-cap.ts';
import { UplinkShare } from './uplink-share.ts';

export interface TrafficLimits {
  /** Bytes per second of this node, to or from all peers. @default no limit */
  readonly node?: number | undefined;
  /** Bytes per second of the whole site, to or from peers outside of it. @default no limit */
  readonly site?: number | undefined;
}

/**
 * What one node may move in one direction: its own rate cap counts every byte, its share of the site's uplink those of
 * peers outside (not `near`). Bytes are taken, moved and released as at a `RateCap`.
 *
 * Pure: times are milliseconds of any clock that does not go back.
 */
export class TrafficCap {
  readonly #node: RateCap;
  readonly #site = new RateCap(0);
  #share: UplinkShare;
  #limits: TrafficLimits;

  constructor(limits: TrafficLimits = {}) {
    this.#limits = limits;
    this.#node = new RateCap(limits.node);
    this.#share = new UplinkShare(limits.site ?? Number.POSITIVE_INFINITY);
  }

  get limits(): TrafficLimits {
    return this.#limits;
  }

  /** Bytes per second that this node may move across the uplink now. */
  share(now: number): number {
    return this.#share.limit(now);
  }

  setLimits(limits: TrafficLimits, now: number): void {
    if (limits.site !== this.#limits.site) this.#share = this.#share.withCap(limits.site ?? Number.POSITIVE_INFINITY);
    this.#node.setLimit(limits.node ?? Number.POSITIVE_INFINITY, now);
    this.#limits = limits;
  }

  /** Who uses the uplink in this direction, as far as this node has heard. */
  update(view: Parameters<UplinkShare['update']>[0], now: number): void {
    this.#share.update(view, now);
  }

  fits(near: boolean, bytes: number, now: number): boolean {
    return this.#node.fits(bytes, now) && (near || this.uplinkFits(bytes, now));
  }

  /** False when the uplink is what has no room, whatever this node's own cap says. */
  uplinkFits(bytes: number, now: number): boolean {
    return this.#uplink(now).fits(bytes, now);
  }

  /** When it fits if nothing else happens; Infinity when that takes some news. */
  fitsAt(near: boolean, bytes: number, now: number): number {
    const own = this.#node.fitsAt(bytes, now);
    return near ? own : Math.max(own, this.#uplink(now).fitsAt(bytes, now));
  }

  take(near: boolean, bytes: number, now: number): void {
    this.#node.take(bytes, now);
    if (!near) this.#uplink(now).take(bytes, now);
  }

  /** Of `taken` bytes so many have moved, and the rest never will. More than were taken count as well. */
  moved(near: boolean, taken: number, bytes: number, now: number): void {
    for (const cap of near ? [this.#node] : [this.#node, this.#uplink(now)]) {
      cap.moved(bytes, now);
      if (taken > bytes) cap.released(taken - bytes);
    }
  }

  released(near: boolean, bytes: number): void {
    this.#node.released(bytes);
    if (!near) this.#site.released(bytes);
  }

  #uplink(now: number): RateCap {
    this.#site.setLimit(this.#share.limit(now), now);
    return this.#site;
  }
}
