import { formatRate } from '../../src/fleet/quantity.ts';
import { type Outcome, quantile } from './outcome.ts';
import type { Scenario } from './scenario.ts';

/** What a run is recorded as. */
export interface Entry {
  /** Receivers, liars included. */
  readonly n: number;
  readonly honest: number;
  readonly finished: number;
  readonly verified: number;
  /** Time over the bound: of the last node, and of the nodes' own times. */
  readonly ratio_to_bound: number;
  readonly ratio_p50: number;
  readonly ratio_p99: number;
  readonly bound_s: number;
  /** Payloads that left the origin. */
  readonly origin_egress: number;
  /** Payloads that came in over an uplink: the mean of all sites and the most. */
  readonly uplink_mean: number;
  readonly uplink_most: number;
  readonly duplicate_share: number;
  readonly refused_chunks: number;
  readonly wrong_chunks: number;
  readonly bans: number;
  readonly deaths: number;
  readonly simulated_s: number;
  readonly seconds: number;
  readonly events_per_s: number;
  /** CPU time, all threads. */
  readonly cpu_s: number;
  /** Of it, for each chunk that came to a node. */
  readonly us_per_chunk: number;
  readonly peak_rss_mb: number;
  readonly digest: string;
}

export function entryOf(
  outcome: Outcome,
  scenario: Scenario,
  { seconds, cpuSeconds }: { readonly seconds: number; readonly cpuSeconds: number },
): Entry {
  const { times, boundMs, uplinks, events, delivered } = outcome;
  const ratio = (share: number) => round(quantile(times, share) / boundMs);
  return {
    n: scenario.nodes,
    honest: outcome.honest,
    finished: outcome.finished,
    verified: outcome.verified,
    ratio_to_bound: ratio(1),
    ratio_p50: ratio(0.5),
    ratio_p99: ratio(0.99),
    bound_s: round(boundMs / 1000),
    origin_egress: round(outcome.originEgress),
    uplink_mean: round(uplinks.reduce((sum, one) => sum + one, 0) / uplinks.length),
    uplink_most: round(Math.max(...uplinks)),
    duplicate_share: round(outcome.duplicates),
    refused_chunks: outcome.refused,
    wrong_chunks: outcome.wrong,
    bans: outcome.bans,
    deaths: outcome.deaths,
    simulated_s: round(outcome.simulatedMs / 1000),
    seconds: round(seconds),
    events_per_s: Math.round(events / seconds),
    cpu_s: round(cpuSeconds),
    us_per_chunk: round((cpuSeconds * 1e6) / delivered),
    // The kernel counts KiB.
    peak_rss_mb: Math.round((process.resourceUsage().maxRSS * 1024) / 1e6),
    digest: outcome.digest,
  };
}

export function linesOf(s: Scenario, entry: Entry): string[] {
  const uplink = s.uplinkRate === undefined ? 'no uplinks' : `uplinks ${formatRate(s.uplinkRate)}`;
  return [
    `${s.nodes} nodes in ${s.sites} sites, ${s.chunks} chunks of ${s.chunkBytes / 1024} KiB, seed ${s.seed}: origin ${formatRate(s.originRate)}, ${uplink}, nodes ${formatRate(s.nodeRate)}, ${percent(s.liars)} liars, ${percent(s.churn)} churn a minute`,
    `  finished    ${entry.finished} of ${entry.honest} honest nodes, ${entry.verified} with a right copy; ${entry.simulated_s} s simulated`,
    `  bound       ${entry.bound_s} s; ratio p50 ${entry.ratio_p50}, p99 ${entry.ratio_p99}, last ${entry.ratio_to_bound}`,
    `  payloads    origin sent ${entry.origin_egress}; uplinks took ${entry.uplink_mean} on average, ${entry.uplink_most} at most`,
    `  chunks      ${percent(entry.duplicate_share)} twice, ${entry.refused_chunks} with wrong bytes refused, ${entry.wrong_chunks} accepted; ${entry.bans} bans, ${entry.deaths} deaths`,
    `  run         ${entry.seconds} s (${entry.cpu_s} s CPU), ${entry.events_per_s} events/s, ${entry.us_per_chunk} µs a chunk, ${entry.peak_rss_mb} MB, digest ${entry.digest}`,
  ];
}

function percent(share: number): string {
  return `${Number((share * 100).toFixed(2))} %`;
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
