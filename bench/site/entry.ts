import type { Heat } from './race.ts';

/** What a contender did over all rounds, for the record and for `--json`. Medians, unless said otherwise. */
export interface Entry {
  readonly version: string;
  readonly n: number;
  readonly rounds: number;
  /** Time until everybody has the payload, over the bound; null when in most rounds somebody never had. */
  readonly ratio_to_bound: number | null;
  /** The same of the nodes' times, those of all rounds together. */
  readonly ratio_p50: number | null;
  readonly ratio_p99: number | null;
  readonly seconds: number | null;
  /** Per round the nodes' times; null where one never had it. */
  readonly node_seconds: readonly (readonly (number | null)[])[];
  /** Wire bytes that left the origin, in payloads. */
  readonly origin_egress: number;
  /** Payload bytes that left the origin, in payloads, where the contender can tell. */
  readonly origin_payload?: number;
  /** Nodes that had their copy, and those whose sha256 was right: the worst round. */
  readonly finished: number;
  readonly verified: number;
  readonly cpu_s_per_gb: number;
  readonly machine_idle_percent: number;
  /** Of one process: the most of all rounds. */
  readonly peak_rss_mb: number;
  readonly idle_rss_mb: number;
  readonly grown_rss_mb: number;
  readonly lane?: string;
  /** Wire bytes into and out of each site, in payloads. */
  readonly uplinks: Readonly<Record<string, { readonly down: number; readonly up: number }>>;
}

export interface Yardstick {
  readonly payloadBytes: number;
  readonly boundSeconds: number;
}

/** Puts the rounds of one contender together. */
export function entryOf(heats: readonly Heat[], version: string, { payloadBytes, boundSeconds }: Yardstick): Entry {
  const n = heats[0]?.seconds.length ?? 0;
  const last = heats.map(({ seconds }) => lastOf(seconds));
  const all = heats.flatMap(({ seconds }) => seconds);
  const ratio = (seconds: number | undefined) => (seconds === undefined ? null : round(seconds / boundSeconds));
  const payloads = (bytes: number) => round(bytes / payloadBytes);
  const ofHeats = (value: (heat: Heat) => number) => median(heats.map(value)) ?? 0;
  const sent = heats.flatMap(({ payloadSent }) => payloadSent ?? []);
  const lanes = [...new Set(heats.flatMap(({ lane }) => lane ?? []))];
  const sites = Object.keys(heats[0]?.wire.uplinks ?? {});
  const carried = (site: string, way: 'up' | 'down') => payloads(ofHeats(({ wire }) => wire.uplinks[site]?.[way] ?? 0));
  const seconds = median(last);
  return {
    version,
    n,
    rounds: heats.length,
    ratio_to_bound: ratio(seconds),
    ratio_p50: ratio(percentile(all, 0.5)),
    ratio_p99: ratio(percentile(all, 0.99)),
    seconds: seconds === undefined ? null : round(seconds),
    node_seconds: heats.map((heat) => heat.seconds.map((one) => (one === undefined ? null : round(one)))),
    origin_egress: payloads(ofHeats(({ wire }) => wire.originUp)),
    ...(sent.length > 0 && { origin_payload: payloads(median(sent) ?? 0) }),
    finished: Math.min(...heats.map((heat) => heat.seconds.filter((one) => one !== undefined).length)),
    verified: Math.min(...heats.map(({ verified }) => verified)),
    cpu_s_per_gb: round(ofHeats(({ cpuSeconds }) => cpuSeconds) / ((n * payloadBytes) / 1e9)),
    machine_idle_percent: round(ofHeats(({ idlePercent }) => idlePercent)),
    peak_rss_mb: round(Math.max(...heats.map(({ peakRssMb }) => peakRssMb))),
    grown_rss_mb: round(Math.max(...heats.map(({ grownRssMb }) => grownRssMb))),
    idle_rss_mb: round(Math.max(...heats.map(({ idleRssMb }) => idleRssMb))),
    ...(lanes.length > 0 && { lane: lanes.join(' ') }),
    uplinks: Object.fromEntries(sites.map((site) => [site, { down: carried(site, 'down'), up: carried(site, 'up') }])),
  };
}

/** When the last one had it; undefined when one never had. */
export function lastOf(seconds: readonly (number | undefined)[]): number | undefined {
  const times = seconds.filter((one) => one !== undefined);
  return times.length < seconds.length ? undefined : Math.max(...times);
}

/** Undefined counts as longer than any. */
function median(values: readonly (number | undefined)[]): number | undefined {
  const sorted = ascending(values);
  const [low, high] = [sorted[Math.floor((sorted.length - 1) / 2)], sorted[Math.ceil((sorted.length - 1) / 2)]];
  return low === undefined || high === undefined || !Number.isFinite(high) ? undefined : (low + high) / 2;
}

/** Nearest rank. */
function percentile(values: readonly (number | undefined)[], share: number): number | undefined {
  const found = ascending(values)[Math.max(0, Math.ceil(values.length * share) - 1)];
  return found !== undefined && Number.isFinite(found) ? found : undefined;
}

function ascending(values: readonly (number | undefined)[]): number[] {
  return values.map((value) => value ?? Number.POSITIVE_INFINITY).sort((a, b) => a - b);
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
