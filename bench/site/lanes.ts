/** What our agents may use for chunk bytes; `auto` is what an agent does by itself. */
export const LANES = ['auto', 'libp2p'] as const;
export type Lane = (typeof LANES)[number];

/** The part of an agent's configuration that says so. */
export function laneConfig(lane: Lane): object {
  return lane === 'auto' ? {} : {};
}
