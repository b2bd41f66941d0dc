import { join } from 'node:path';
import type { Contender, Payload, Race } from './contender.ts';
import type { Course } from './course.ts';
import { type Entry, entryOf, lastOf } from './entry.ts';
import { makePayload } from './payload.ts';
import { type Heat, runRace } from './race.ts';
import { openScene, type Scene, type ScenePlan } from './scene.ts';

export interface Rounds {
  readonly course: Course;
  readonly plan: ScenePlan;
  readonly boundSeconds: number;
  /** A node that has no copy after so many bounds and seconds has failed. @default 20 bounds and 60 s */
  readonly patience?: { readonly bounds: number; readonly seconds: number };
  /** Runs during each race. */
  readonly during?: (race: Race, context: DuringContext) => Promise<void>;
}

export interface DuringContext {
  readonly scene: Scene;
  readonly contender: Contender;
  readonly payload: Payload;
  /** From 1. */
  readonly round: number;
  readonly signal: AbortSignal;
}

export interface Outcome {
  readonly contender: string;
  readonly heats: readonly Heat[];
  readonly entry: Entry;
}

const PATIENCE = { bounds: 20, seconds: 60 };

/** Lets all contenders race by turns in one scene; ours is the first. Prints a row for each race. */
export async function runRounds(
  { course, plan, boundSeconds, during, patience = PATIENCE }: Rounds,
  { signal }: { readonly signal: AbortSignal },
): Promise<readonly [Outcome, ...Outcome[]]> {
  const { directory, profile, contenders, payloadBytes, rounds, seed } = course;
  await using scene = await openScene(
    { ...plan, ...(directory !== undefined && { directory }), ...(profile !== undefined && { profile }) },
    { signal },
  );
  console.log(`bound ${boundSeconds.toFixed(2)} s; data in ${scene.directory}`);
  const payload = await makePayload(join(scene.directory, 'payload', 'payload.bin'), payloadBytes, seed);
  const heats = new Map<Contender, Heat[]>(contenders.map((contender) => [contender, []]));
  const limitMs = 1000 * (patience.seconds + patience.bounds * boundSeconds);
  for (let round = 1; round <= rounds; round += 1) {
    for (const [contender, done] of heats) {
      signal.throwIfAborted();
      const context = { scene, contender, payload, round };
      const happens =
        during && ((race: Race, options: { signal: AbortSignal }) => during(race, { ...context, ...options }));
      const heat = await runRace(scene, contender, payload, { signal, limitMs, ...(happens && { during: happens }) });
      done.push(heat);
      for (const line of describe(round, contender.name, heat, payloadBytes, boundSeconds)) console.log(line);
    }
  }
  const outcomes: Outcome[] = [];
  for (const [contender, done] of heats) {
    const entry = entryOf(done, await contender.version(), { payloadBytes, boundSeconds });
    outcomes.push({ contender: contender.name, heats: done, entry });
  }
  const [first, ...others] = outcomes;
  if (first === undefined) throw new TypeError('a course has a contender');
  return [first, ...others];
}

function describe(round: number, name: string, heat: Heat, payloadBytes: number, boundSeconds: number): string[] {
  const { seconds, verified, wire, payloadSent, cpuSeconds, idlePercent, idleRssMb, peakRssMb, lane } = heat;
  const finished = seconds.filter((one) => one !== undefined).length;
  const last = lastOf(seconds);
  const payloads = (bytes: number) => (bytes / payloadBytes).toFixed(3);
  const gigabytes = (finished * payloadBytes) / 1e9;
  const parts = [
    `${verified}/${seconds.length} verified`,
    last === undefined ? `${finished} finished` : `${last.toFixed(2)} s = ${(last / boundSeconds).toFixed(3)} × bound`,
    `origin ${payloads(wire.originUp)} on the wire${payloadSent === undefined ? '' : `, ${payloads(payloadSent)} payload`}`,
    `CPU ${gigabytes === 0 ? '-' : (cpuSeconds / gigabytes).toFixed(2)} s/GB, machine ${idlePercent.toFixed(0)} % idle`,
    `RSS ${idleRssMb.toFixed(0)} → ${peakRssMb.toFixed(0)} MB`,
    ...(lane === undefined ? [] : [`lane ${lane}`]),
  ];
  const each = seconds.map((one) => (one === undefined ? '-' : one.toFixed(2))).join(' ');
  return [`round ${round}  ${name.padEnd(18)}${parts.join('; ')}`, `${' '.repeat(27)}each ${each}`];
}
