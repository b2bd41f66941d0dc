import type { Counter } from 'prom-client';
import type { Metrics } from '../observe/metrics.ts';

/** Addresses that get a series of their own: a segment's worth. The rest are counted together. */
const MAX_CLIENTS = 256;

/** Bytes served, by client address, with a bounded number of series. */
export class ClientBytes {
  readonly #counter: Counter<'client'>;
  readonly #known = new Set<string>();

  constructor(metrics: Metrics) {
    this.#counter = metrics.counter('gateway_bytes_total', 'Artifact bytes served, by client address', ['client']);
  }

  add(client: string, bytes: number): void {
    if (this.#known.size < MAX_CLIENTS) this.#known.add(client);
    this.#counter.inc({ client: this.#known.has(client) ? client : 'other' }, bytes);
  }
}
