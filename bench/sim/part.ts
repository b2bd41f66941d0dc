import type { Agent } from './agent.ts';
import { isPayload, wrongIn } from './content.ts';
import { Digest } from './digest.ts';
import type { Outcome } from './outcome.ts';
import { bound, type Scenario } from './scenario.ts';
import type { Tally } from './tally.ts';
import type { World } from './world.ts';

/** What one thread of a simulation knows of its outcome, as threads can send it. Bytes are payload. */
export interface Part {
  readonly honest: number;
  readonly verified: number;
  readonly wrong: number;
  readonly times: readonly number[];
  readonly tally: Readonly<Tally>;
  readonly originSent: number;
  /** By site; 0 for those of other threads. */
  readonly uplinkBytes: readonly number[];
  readonly deaths: number;
  readonly simulatedMs: number;
  readonly events: number;
  /** By place; undefined for those of other threads. */
  readonly digests: readonly (string | undefined)[];
}

export function partOf(world: World, tally: Tally, agents: readonly Agent[]): Part {
  const { network, topology } = world;
  const complete = agents.filter((agent) => agent.took !== undefined);
  return {
    honest: agents.length,
    verified: complete.filter((agent) => isPayload(agent.tags)).length,
    wrong: agents.reduce((sum, agent) => sum + wrongIn(agent.tags), 0),
    times: complete.map(({ took }) => took ?? 0),
    tally: { ...tally },
    originSent: network.sentBytes[topology.origin] ?? 0,
    uplinkBytes: network.uplinkBytes,
    deaths: world.deaths,
    simulatedMs: world.endedMs,
    events: world.events,
    digests: world.digests.map((digest, place) => (world.tells(place) ? String(digest) : undefined)),
  };
}

/** The parts of all threads together. */
export function conclude(scenario: Scenario, payload: number, parts: readonly [Part, ...Part[]]): Outcome {
  const sum = (of: (part: Part) => number) => parts.reduce((total, part) => total + of(part), 0);
  const times = parts.flatMap((part) => part.times).sort((a, b) => a - b);
  const stored = sum(({ tally }) => tally.stored);
  const [{ deaths, simulatedMs, uplinkBytes, digests }] = parts;
  return {
    honest: sum(({ honest }) => honest),
    finished: times.length,
    verified: sum(({ verified }) => verified),
    times,
    boundMs: bound(scenario, payload),
    originEgress: sum(({ originSent }) => originSent) / payload,
    uplinks: uplinkBytes.map((_, site) => sum((part) => part.uplinkBytes[site] ?? 0) / payload),
    duplicates: sum(({ tally }) => tally.duplicates) / Math.max(1, stored),
    refused: sum(({ tally }) => tally.refused),
    wrong: sum(({ wrong }) => wrong),
    bans: sum(({ tally }) => tally.bans),
    deaths,
    delivered: stored,
    simulatedMs,
    events: sum(({ events }) => events),
    digest: Digest.of(digests.map((_, place) => parts.flatMap((part) => part.digests[place] ?? [])[0] ?? '')),
  };
}
