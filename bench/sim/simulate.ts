import { setImmediate as turn } from 'node:timers/promises';
import { Agent } from './agent.ts';
import { ALONE, type Meeting } from './crossing.ts';
import { LIES, Liar } from './liar.ts';
import type { Outcome } from './outcome.ts';
import { conclude, type Part, partOf } from './part.ts';
import { sample } from './random.ts';
import type { Scenario } from './scenario.ts';
import { Tally } from './tally.ts';
import { World } from './world.ts';

/** Events between two looks at the signal. */
const EVENTS_PER_TURN = 100_000;

export interface SimulateOptions {
  readonly signal: AbortSignal;
  /** Bytes of each chunk. @default the scenario's number of chunks, all equal */
  readonly sizes?: ArrayLike<number>;
}

/** Runs a scenario to its end: every honest node has the payload, or time is over. */
export async function simulate(scenario: Scenario, { signal, sizes }: SimulateOptions): Promise<Outcome> {
  const all = sizes ?? equalSizes(scenario);
  const payload = Array.from(all).reduce((sum, size) => sum + size, 0);
  return conclude(scenario, payload, [await simulatePart(scenario, ALONE, { signal, sizes: all })]);
}

export function equalSizes({ chunks, chunkBytes }: Scenario): Float64Array {
  return new Float64Array(chunks).fill(chunkBytes);
}

/** Runs what is one thread's of a scenario. */
export async function simulatePart(
  scenario: Scenario,
  meeting: Meeting,
  { signal, sizes }: Required<SimulateOptions>,
): Promise<Part> {
  const world = new World(scenario, meeting);
  const tally = new Tally();
  const deps = { world, tally, sizes };
  const nodes = Array.from({ length: scenario.nodes }, (_, node) => node);
  const liars = sample(nodes, Math.round(scenario.liars * scenario.nodes), world.random);
  const lies = new Map(liars.map((node, n) => [node, LIES[n % LIES.length] as (typeof LIES)[number]]));
  const members = [...nodes, world.topology.origin].map((node) => {
    if (!world.owns(node)) return undefined;
    const lie = lies.get(node);
    return lie === undefined ? new Agent(deps, node) : new Liar(deps, node, lie);
  });
  const agents = members.filter(
    (member) => member instanceof Agent && member.self !== world.topology.origin,
  ) as Agent[];
  const origin = members[world.topology.origin];
  if (origin instanceof Agent) origin.seed();
  world.open(members);
  for (const agent of agents) agent.begin(world.randomOf(agent.self)() * scenario.startMs);
  const honest = scenario.nodes - liars.length;
  for (let looked = 0; world.advance(tally.finished, honest); ) {
    if (world.events - looked < EVENTS_PER_TURN) continue;
    looked = world.events;
    await turn();
    signal.throwIfAborted();
  }
  return partOf(world, tally, agents);
}
