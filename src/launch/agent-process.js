// Read by the launcher, on Node 20.

/**
 * How an agent's Node is started: with a young generation of one size. V8's own starts small, and promotes what is
 * about to die; while it grows, a flood of small packets looks like a leak.
 */
export const AGENT_FLAGS = ['--max-semi-space-size=16', '--min-semi-space-size=16'];

/**
 * And one arena for glibc's malloc: with one for each thread, what a flood had in hand stays with the process in as many
 * places. What the user's environment says comes first.
 */
export const AGENT_ENV = { MALLOC_ARENA_MAX: '1' };
