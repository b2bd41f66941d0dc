// Read by the launcher, on Node 20.

/**
 * How an agent's Node is started: with a young generation of one size. V8's own starts small, and promotes what is
 * about to die (with 4 MiB, a swarm spends a fifth more CPU); while it grows, a flood of small packets looks like a
 * leak.
 */
export const AGENT_FLAGS = ['--max-semi-space-size=16', '--min-semi-space-size=16'];
