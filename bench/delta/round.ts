import type { Scene } from '../site/scene.ts';
import type { Updater } from './updater.ts';
import type { VersionPair } from './version-pair.ts';

/** Ethernet, IPv4, and TCP with timestamps. */
const HEADER_BYTES = 14 + 20 + 32;

/** What one update has cost. */
interface Round {
  /** Whole frames, both ways, by the class counters of the origin's link. */
  readonly wireBytes: number;
  readonly downBytes: number;
  /** The same without the headers of its packets. */
  readonly carriedBytes: number;
  /** Sent and received, as the updater itself says. */
  readonly countedBytes: number | undefined;
  readonly seconds: number;
  readonly verified: boolean;
}

/** Medians of all rounds. */
export interface Entry {
  readonly version: string;
  readonly n: 1;
  readonly rounds: number;
  readonly wire_bytes: number;
  /** wire_bytes over the size of the second version. */
  readonly share: number;
  readonly wire_down_bytes: number;
  /** Of what the interface carried without headers, the part that our own counters have not seen; below 0: too much. */
  readonly uncounted?: number;
  /** Wire bytes that left the origin, over the size of the second version. */
  readonly origin_egress: number;
  readonly seconds: number;
  readonly finished: number;
  readonly verified: number;
}

export async function runRound(scene: Scene, updater: Updater, pair: VersionPair, signal: AbortSignal): Promise<Round> {
  await scene.clear();
  await using update = await updater.prepare(scene, pair, { signal });
  const before = await linkOf(scene);
  const since = performance.now();
  await update.go();
  const seconds = (performance.now() - since) / 1000;
  const countedBytes = await update.counted?.();
  const after = await linkOf(scene);
  const verified = (await update.sha256()) === pair.after.sha256;
  const wireBytes = after.bytes - before.bytes;
  const carriedBytes = wireBytes - (after.packets - before.packets) * HEADER_BYTES;
  return { wireBytes, downBytes: after.down - before.down, carriedBytes, countedBytes, seconds, verified };
}

export function entryOf(rounds: readonly Round[], { after }: VersionPair, version: string): Entry {
  const wire = median(rounds.map(({ wireBytes }) => wireBytes));
  const down = median(rounds.map(({ downBytes }) => downBytes));
  const uncounted = rounds.flatMap(({ carriedBytes, countedBytes }) =>
    countedBytes === undefined ? [] : [1 - countedBytes / carriedBytes],
  );
  return {
    version,
    n: 1,
    rounds: rounds.length,
    wire_bytes: wire,
    share: rounded(wire / after.bytes),
    wire_down_bytes: down,
    ...(uncounted.length > 0 && { uncounted: rounded(median(uncounted)) }),
    origin_egress: rounded(down / after.bytes),
    seconds: rounded(median(rounds.map(({ seconds }) => seconds))),
    finished: 1,
    verified: rounds.every(({ verified }) => verified) ? 1 : 0,
  };
}

async function linkOf({ lab, origin }: Scene): Promise<{ bytes: number; down: number; packets: number }> {
  const { fromSite, toSite } = await lab.uplink(origin.site);
  return {
    bytes: fromSite.bytes + toSite.bytes,
    down: fromSite.bytes,
    packets: fromSite.packets + toSite.packets,
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return ((sorted[(sorted.length - 1) >> 1] ?? 0) + (sorted[sorted.length >> 1] ?? 0)) / 2;
}

function rounded(value: number): number {
  return Math.round(value * 1e4) / 1e4;
}
