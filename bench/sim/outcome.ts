/** What one simulated run came to. Times are simulated milliseconds, from a node's own start. */
export interface Outcome {
  readonly honest: number;
  readonly finished: number;
  /** Finished, and every chunk in the store is the right one. */
  readonly verified: number;
  /** Of the honest nodes that finished, ascending. */
  readonly times: readonly number[];
  readonly boundMs: number;
  /** Payloads that left the origin. */
  readonly originEgress: number;
  /** Payloads that came in over each site's uplink. */
  readonly uplinks: readonly number[];
  /** Chunks that came although the node had them, per chunk that it needed. */
  readonly duplicates: number;
  /** Chunks with wrong bytes that arrived and were refused. */
  readonly refused: number;
  /** Chunks in stores of honest nodes that are not the payload's. */
  readonly wrong: number;
  readonly bans: number;
  readonly deaths: number;
  readonly delivered: number;
  readonly simulatedMs: number;
  readonly events: number;
  readonly digest: string;
}

/** What must hold, a sentence for each thing that does not. */
export function faults(outcome: Outcome, { mostUplink }: { readonly mostUplink: number }): string[] {
  const { honest, finished, verified, wrong, uplinks } = outcome;
  const busiest = Math.max(0, ...uplinks);
  return [
    ...(finished < honest ? [`${finished} of ${honest} honest nodes finished`] : []),
    ...(verified < finished ? [`${finished - verified} of the finished nodes hold a wrong copy`] : []),
    ...(wrong > 0 ? [`${wrong} wrong chunks were accepted`] : []),
    ...(busiest > mostUplink ? [`an uplink carried ${busiest.toFixed(3)} payloads, and may ${mostUplink}`] : []),
  ];
}

/** The value below which `share` of the sorted `values` lie; NaN of nothing. */
export function quantile(values: readonly number[], share: number): number {
  return values[Math.min(values.length - 1, Math.ceil(share * values.length) - 1)] ?? Number.NaN;
}
