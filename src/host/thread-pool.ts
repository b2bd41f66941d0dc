import { stat } from 'node:fs';

/** A wakeup that was lost is made good after so long, milliseconds. */
const AGAIN_MS = 1_000;

/**
 * glibc before 2.41 (Debian 12 has 2.36) may lose the signal that wakes a waiting thread (sourceware bug 25847): a request
 * then lies in libuv's queue with all its threads idle, until something else is asked of them. From now on something is,
 * now and then, as long as the process has other things to do.
 */
export function keepThreadPoolAwake(): void {
  setInterval(() => stat('/', () => undefined), AGAIN_MS).unref();
}
