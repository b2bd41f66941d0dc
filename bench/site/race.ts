import { setTimeout as delay } from 'node:timers/promises';
import type { Contender, Payload, Race } from './contender.ts';
import type { Scene, SceneCounters } from './scene.ts';
import { type Cost, Usage } from './usage.ts';

/** One race of one contender. */
export interface Heat extends Cost {
  /** Per node: seconds from go until its copy was complete; undefined when it never was. */
  readonly seconds: readonly (number | undefined)[];
  /** Nodes whose copy is complete and has the payload's sha256. */
  readonly verified: number;
  /** What each link carried while the race lasted, wire bytes by tc class counters. */
  readonly wire: SceneCounters;
  /** Payload bytes that left the origin, by the contender's own count. */
  readonly payloadSent?: number;
  /** Payload bytes that each node received, by the contender's own count. */
  readonly payloadReceived?: readonly number[];
  readonly lane?: string;
}

export interface RaceOptions {
  readonly signal: AbortSignal;
  /** Nodes that have no copy by then have failed, milliseconds from go. */
  readonly limitMs: number;
  /** What happens during the race; ended by its signal when all have finished. */
  readonly during?: (race: Race, options: { readonly signal: AbortSignal }) => Promise<void>;
}

/** Copies are read and hashed by so many at a time. */
const READERS = 2;

/** Runs a contender once, checks every copy, and clears the scene. */
export async function runRace(
  scene: Scene,
  contender: Contender,
  payload: Payload,
  { signal, limitMs, during }: RaceOptions,
): Promise<Heat> {
  try {
    await using race = await contender.prepare(scene, payload, { signal });
    const before = await scene.counters();
    using usage = await Usage.start(() => race.pids());
    const over = new AbortController();
    race.go();
    const events = during?.(race, { signal: AbortSignal.any([signal, over.signal]) });
    // Heard at once: what happens during the race may fail before the race is over.
    const eventful = events?.catch((error: unknown) => {
      if (!over.signal.aborted) throw error;
    });
    eventful?.catch(() => undefined);
    const seconds = await finishes(race, limitMs, signal);
    const cost = await usage.stop();
    const wire = difference(before, await scene.counters());
    over.abort();
    await eventful;
    const [payloadSent, payloadReceived, lane] = await Promise.all([
      race.payloadSent?.().catch(() => undefined),
      race.payloadReceived?.(),
      race.lane?.().catch(() => undefined),
    ]);
    return {
      ...cost,
      seconds,
      verified: await countVerified(race, seconds, payload),
      wire,
      ...(payloadSent !== undefined && { payloadSent }),
      ...(payloadReceived !== undefined && { payloadReceived }),
      ...(lane !== undefined && { lane }),
    };
  } finally {
    await scene.clear();
  }
}

/** Waits for all nodes, for so long; a node that fails has no time. */
async function finishes(race: Race, limitMs: number, signal: AbortSignal): Promise<(number | undefined)[]> {
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  const late = delay(limitMs, undefined, { signal: either }).catch(() => undefined);
  try {
    const seconds = await Promise.all(
      race.finished.map(async (finish, node) => {
        const told = finish.catch((error: unknown) => {
          // What ends with the race has not failed in it.
          if (!over.signal.aborted)
            console.error(`  n${node + 1} failed: ${error instanceof Error ? error.message : error}`);
        });
        const ms = await Promise.race([told, late]);
        return ms === undefined ? undefined : ms / 1000;
      }),
    );
    signal.throwIfAborted();
    return seconds;
  } finally {
    over.abort();
  }
}

async function countVerified(race: Race, seconds: readonly (number | undefined)[], payload: Payload): Promise<number> {
  const left = [...seconds.keys()].filter((node) => seconds[node] !== undefined);
  let right = 0;
  const reader = async () => {
    for (let node = left.shift(); node !== undefined; node = left.shift()) {
      const sha256 = await race.sha256(node).catch((error: unknown) => String(error));
      if (sha256 === payload.sha256) right += 1;
      else console.error(`  n${node + 1} has a wrong copy: ${sha256}`);
    }
  };
  await Promise.all(Array.from({ length: READERS }, reader));
  return right;
}

function difference(before: SceneCounters, after: SceneCounters): SceneCounters {
  return {
    originUp: after.originUp - before.originUp,
    originDown: after.originDown - before.originDown,
    uplinks: Object.fromEntries(
      Object.entries(after.uplinks).map(([site, { up, down }]) => [
        site,
        { up: up - (before.uplinks[site]?.up ?? 0), down: down - (before.uplinks[site]?.down ?? 0) },
      ]),
    ),
  };
}
