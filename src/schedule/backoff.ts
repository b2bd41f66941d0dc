export interface BackoffOptions {
  /** Wait before the second attempt, milliseconds. @default 250 */
  readonly first: number;
  /** Longest wait, milliseconds. @default 15000 */
  readonly longest: number;
}

export const BACKOFF_DEFAULTS: BackoffOptions = { first: 250, longest: 15_000 };

/**
 * Milliseconds to wait after `failures` failed attempts in a row: doubling, with half of it at random, so that the
 * nodes of a site whose power returns do not knock in step.
 */
export function backoff(failures: number, random: () => number, options: Partial<BackoffOptions> = {}): number {
  const { first, longest } = { ...BACKOFF_DEFAULTS, ...options };
  const whole = Math.min(longest, first * 2 ** Math.min(failures, 30));
  return whole / 2 + (whole / 2) * random();
}
