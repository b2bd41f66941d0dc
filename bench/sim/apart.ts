import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { Outcome } from './outcome.ts';
import type { Scenario } from './scenario.ts';
import { simulate } from './simulate.ts';

/**
 * Messages live for some simulated milliseconds, which is long for a young object: with the usual 16 MB most of them are
 * copied before they die (1.25 × the CPU time, 1,000 nodes). MB.
 */
const HEAP = { maxYoungGenerationSizeMb: 512, maxOldGenerationSizeMb: 7_000 };

/** Simulates in a thread of its own, which has the heap for it, and can be ended at any moment. */
export async function simulateApart(
  scenario: Scenario,
  { signal }: { readonly signal: AbortSignal },
): Promise<Outcome> {
  const worker = new Worker(new URL(import.meta.url), { workerData: scenario, resourceLimits: HEAP });
  const done = Promise.withResolvers<Outcome>();
  worker.once('message', done.resolve);
  worker.once('error', done.reject);
  worker.once('exit', () => done.reject(new Error('the simulation ended early')));
  const abort = () => done.reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await done.promise;
  } finally {
    signal.removeEventListener('abort', abort);
    await worker.terminate();
  }
}

if (!isMainThread) {
  const { signal } = new AbortController();
  parentPort?.postMessage(await simulate(workerData as Scenario, { signal }));
}
