import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';

/** What a room counts with; injected, so that two agents in one process never share a counter. */
export interface Metrics {
  /** @param collect called before the counts are told, for what counts itself meanwhile */
  counter<L extends string>(name: string, help: string, labels?: readonly L[], collect?: () => void): Counter<L>;
  gauge<L extends string>(name: string, help: string, labels?: readonly L[]): Gauge<L>;
  /** The Prometheus text exposition of everything counted so far. */
  text(): Promise<string>;
}

/** Names are prefixed `bootmesh_`; asking twice for a name returns the same instrument. */
export function createMetrics(options: { readonly process?: boolean } = {}): Metrics {
  const registry = new Registry();
  const collectors: (() => void)[] = [];
  if (options.process) collectDefaultMetrics({ register: registry });
  return {
    counter: <L extends string>(name: string, help: string, labels: readonly L[] = [], collect?: () => void) => {
      if (collect) collectors.push(collect);
      return (
        (registry.getSingleMetric(`bootmesh_${name}`) as Counter<L> | undefined) ??
        new Counter<L>({ name: `bootmesh_${name}`, help, labelNames: [...labels], registers: [registry] })
      );
    },
    gauge: <L extends string>(name: string, help: string, labels: readonly L[] = []) =>
      (registry.getSingleMetric(`bootmesh_${name}`) as Gauge<L> | undefined) ??
      new Gauge<L>({ name: `bootmesh_${name}`, help, labelNames: [...labels], registers: [registry] }),
    text: () => {
      for (const collect of collectors) collect();
      return registry.metrics();
    },
  };
}
