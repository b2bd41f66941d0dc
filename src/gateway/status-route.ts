import type { Metrics } from '../observe/metrics.ts';
import { sendJson, sendText } from './refusal.ts';
import type { Route } from './router.ts';

/** What the node tells anyone on its network about itself. */
export interface StatusSource {
  /** Plain JSON. Must not hold secrets. */
  snapshot(): unknown;
  /** False while the node cannot do its work. */
  healthy(): boolean;
}

/** `/status` (JSON), `/metrics` (Prometheus text), `/healthz` (200 or 503). */
export function statusRoutes(deps: { readonly status: StatusSource; readonly metrics: Metrics }): readonly Route[] {
  return [
    {
      path: '/status',
      handle: async (_request, response) => sendJson(response, 200, deps.status.snapshot()),
    },
    {
      path: '/metrics',
      handle: async (_request, response) =>
        sendText(response, 200, 'text/plain; version=0.0.4; charset=utf-8', await deps.metrics.text()),
    },
    {
      path: '/healthz',
      handle: async (_request, response) => {
        const ok = deps.status.healthy();
        sendJson(response, ok ? 200 : 503, { ok });
      },
    },
  ];
}
