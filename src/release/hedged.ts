import { setTimeout as delay } from 'node:timers/promises';

interface HedgeOptions {
  /** Ends all attempts. */
  readonly signal: AbortSignal;
  /** The next attempt starts when the ones before it have been at it for so long, milliseconds. */
  readonly staggerMs: number;
}

type Attempt<T> = (options: { readonly signal: AbortSignal }) => Promise<T>;

/**
 * The first attempt that succeeds. Each starts when the one before has failed, or is slow; the others are aborted at the
 * end. Rejects with an `AggregateError` of all failures, or with the signal's reason.
 */
export async function hedged<T>(attempts: readonly Attempt<T>[], { signal, staggerMs }: HedgeOptions): Promise<T> {
  const done = new AbortController();
  const own = AbortSignal.any([signal, done.signal]);
  const waiting = attempts.values();
  const lane = async (): Promise<T> => {
    const errors: unknown[] = [];
    for (const attempt of waiting) {
      own.throwIfAborted();
      try {
        return await attempt({ signal: own });
      } catch (error) {
        errors.push(error);
      }
    }
    throw new AggregateError(errors, 'every attempt failed');
  };
  try {
    const lanes = [lane()];
    while (lanes.length < attempts.length) {
      const slow = delay(staggerMs, 'slow' as const, { signal: own });
      slow.catch(() => undefined);
      const first = await Promise.race([slow, Promise.any(lanes), Promise.allSettled(lanes)]);
      if (first !== 'slow') break;
      lanes.push(lane());
    }
    return await Promise.any(lanes);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof AggregateError)) throw error;
    throw new AggregateError(error.errors.flatMap(flatten), error.message);
  } finally {
    done.abort();
  }
}

function flatten(error: unknown): readonly unknown[] {
  return error instanceof AggregateError ? error.errors : [error];
}
