/**
 * What our agents may use for chunk bytes. `plain` calls the whole scene trusted, `tls` is what neighbours use by
 * themselves, `libp2p` has both switched off; `auto` is the configuration as it comes.
 */
export const LANES = ['auto', 'plain', 'tls', 'libp2p'] as const;
export type Lane = (typeof LANES)[number];

/** The part of an agent's configuration, under `swarm`, that says so. */
export function laneConfig(lane: Lane): object {
  if (lane === 'auto') return {};
  return { lanes: { tls: lane === 'tls', plain: lane === 'plain', trusted: ['0.0.0.0/0', '::/0'] } };
}
