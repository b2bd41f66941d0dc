import { type FastKind, LANE_BITS } from './lane.ts';

/** A lane that could not be opened, died or was slow is not tried again for this long, milliseconds; doubled. */
const REST_MS = 5_000;
const LONGEST_REST_MS = 600_000;

/** Which fast lanes have failed with a peer, and rest. Outlives the links with it. */
export class LaneRest {
  readonly #resting = new Map<FastKind, { failures: number; until: number }>();

  /** It failed at `now`, milliseconds of any monotonic clock. @param forMs @default longer each time */
  rest(kind: FastKind, now: number, forMs?: number): void {
    const before = this.#resting.get(kind);
    // After a long time without failing it is as good as new.
    const failures = before !== undefined && now < before.until + LONGEST_REST_MS ? before.failures + 1 : 1;
    const ms = forMs ?? Math.min(REST_MS * 2 ** (failures - 1), LONGEST_REST_MS);
    this.#resting.set(kind, { failures, until: now + ms });
  }

  /** Those of a set of lanes (bits) that do not rest. */
  awake(lanes: number, now: number): number {
    let awake = lanes;
    for (const [kind, { until }] of this.#resting) if (until > now) awake &= ~LANE_BITS[kind];
    return awake;
  }
}
