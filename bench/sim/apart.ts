import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { Outcome } from './outcome.ts';
import { conclude, type Part } from './part.ts';
import type { Scenario } from './scenario.ts';
import { equalSizes, simulatePart } from './simulate.ts';
import { openMeeting, type Seat, ThreadMeeting } from './thread-meeting.ts';

/**
 * Messages live for some simulated milliseconds, which is long for a young object: with the usual 16 MB most of them are
 * copied before they die (1.25 × the CPU time, 1,000 nodes). MB of all threads.
 */
const HEAP = { young: 512, old: 7_000 };

interface Task {
  readonly scenario: Scenario;
  readonly seat: Seat;
}

/**
 * Simulates in threads of their own, which have the heap for it, and can be ended at any moment. The outcome does not
 * depend on their number.
 *
 * @throws Error when a thread fails; whatever the signal's reason is
 */
export async function simulateApart(
  scenario: Scenario,
  { signal, threads }: { readonly signal: AbortSignal; readonly threads: number },
): Promise<Outcome> {
  const seats = openMeeting(Math.min(threads, scenario.sites));
  const workers = seats.map((seat) => startWorker({ scenario, seat }, seats.length));
  try {
    const [first, ...rest] = await Promise.all(workers.map((worker) => partFrom(worker, signal)));
    if (first === undefined) throw new RangeError('a simulation needs a thread');
    return conclude(scenario, scenario.chunks * scenario.chunkBytes, [first, ...rest]);
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

function startWorker(task: Task, threads: number): Worker {
  const resourceLimits = {
    maxYoungGenerationSizeMb: HEAP.young / threads,
    maxOldGenerationSizeMb: HEAP.old / threads,
  };
  return new Worker(new URL(import.meta.url), { workerData: task, resourceLimits, transferList: [...task.seat.ports] });
}

async function partFrom(worker: Worker, signal: AbortSignal): Promise<Part> {
  const done = Promise.withResolvers<Part>();
  worker.once('message', done.resolve);
  worker.once('error', done.reject);
  worker.once('exit', () => done.reject(new Error('the simulation ended early')));
  const abort = () => done.reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await done.promise;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

if (!isMainThread) {
  const { scenario, seat } = workerData as Task;
  const { signal } = new AbortController();
  const part = await simulatePart(scenario, new ThreadMeeting(seat), { signal, sizes: equalSizes(scenario) });
  parentPort?.postMessage(part);
}
