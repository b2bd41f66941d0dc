import { setImmediate as turn } from 'node:timers/promises';
import { Agent } from './agent.ts';
import { isPayload, wrongIn } from './content.ts';
import { LIES, Liar } from './liar.ts';
import type { Outcome } from './outcome.ts';
import { sample } from './random.ts';
import { bound, type Scenario } from './scenario.ts';
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
  const world = new World(scenario);
  const tally = new Tally();
  const deps = { world, tally, sizes: sizes ?? new Float64Array(scenario.chunks).fill(scenario.chunkBytes) };
  const nodes = Array.from({ length: scenario.nodes }, (_, node) => node);
  const liars = new Set(sample(nodes, Math.round(scenario.liars * scenario.nodes), world.random));
  const lieOf = (n: number) => LIES[n % LIES.length] as (typeof LIES)[number];
  const lies = new Map([...liars].map((node, n) => [node, lieOf(n)]));
  const agents = nodes.filter((node) => !liars.has(node)).map((node) => new Agent(deps, node));
  const origin = new Agent(deps, world.topology.origin);
  origin.seed();
  const byNode = new Map(agents.map((agent) => [agent.self, agent]));
  world.open([...nodes.map((node) => byNode.get(node) ?? new Liar(deps, node, lies.get(node) ?? 'silence')), origin]);
  for (const agent of agents) agent.begin(world.random() * scenario.startMs);
  for (let looked = 0; tally.finished < agents.length && world.advance(); ) {
    if (world.events - looked < EVENTS_PER_TURN) continue;
    looked = world.events;
    await turn();
    signal.throwIfAborted();
  }
  return conclude(world, tally, agents, payloadOf(deps.sizes));
}

function payloadOf(sizes: ArrayLike<number>): number {
  return Array.from(sizes).reduce((sum, size) => sum + size, 0);
}

function conclude(world: World, tally: Tally, agents: readonly Agent[], payload: number): Outcome {
  const { scenario, network, topology } = world;
  const complete = agents.filter((agent) => agent.took !== undefined);
  const wrong = agents.reduce((sum, agent) => sum + wrongIn(agent.tags), 0);
  return {
    honest: agents.length,
    finished: complete.length,
    verified: complete.filter((agent) => isPayload(agent.tags)).length,
    times: complete.map(({ took }) => took ?? 0).sort((a, b) => a - b),
    boundMs: bound(scenario, payload),
    originEgress: (network.sentBytes[topology.origin] ?? 0) / payload,
    uplinks: network.uplinkBytes.map((bytes) => bytes / payload),
    duplicates: tally.duplicates / Math.max(1, tally.stored),
    refused: tally.refused,
    wrong,
    bans: tally.bans,
    deaths: world.deaths,
    delivered: tally.stored,
    simulatedMs: world.now,
    events: world.events,
    digest: String(world.digest),
  };
}
