import { setTimeout as delay } from 'node:timers/promises';
import { formatRate, formatSize } from '../src/fleet/quantity.ts';
import { fluidBound } from './site/bound.ts';
import type { Race } from './site/contender.ts';
import { type Course, type CourseDefaults, courseHelp, type OwnFlags, parseCourse } from './site/course.ts';
import { conclude } from './site/results.ts';
import { type DuringContext, runRounds } from './site/rounds.ts';
import { allVerified } from './site/verdict.ts';

export const summary =
  'the origin is killed and its link cut after so many copies have left it: does everybody finish?';

const DEFAULTS: CourseDefaults = {
  nodes: '8',
  'origin-rate': '100Mbit',
  rate: '100Mbit',
  payload: '256MiB',
  peers: 'aria2,libtorrent-super',
};
const OWN: OwnFlags = {
  copies: ['payloads that leave the origin before it dies, headers taken off', '1.05'],
  'header-factor': ['wire bytes for a byte of payload: 1514/1448 and what is said besides', '1.05'],
};
export const help = courseHelp(DEFAULTS, OWN);

/** The origin's counter is looked at no more often than this, milliseconds: each look is a program's run. */
const LOOK_MS = 10;
const LONGEST_LOOK_MS = 1_000;

interface Death {
  readonly contender: string;
  readonly round: number;
  /** Seconds from go. */
  readonly seconds: number;
  /** Payloads that had left the origin, headers taken off. */
  readonly copies: number;
}

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const course = await parseCourse(argv, DEFAULTS, OWN);
  const [copies, factor] = [positive(course, 'copies'), positive(course, 'header-factor')];
  const { nodes, originRate, rate, payloadBytes } = course;
  const boundSeconds = fluidBound(payloadBytes, nodes, { originUp: originRate, nodeUp: rate, nodeDown: rate });
  const plan = {
    sites: [{ name: 'edge', nodes }],
    ...(originRate !== undefined && { originRate }),
    ...(rate !== undefined && { nodeRate: rate }),
  };
  const deaths: Death[] = [];
  const during = async (race: Race, context: DuringContext) => {
    deaths.push(await killOrigin(race, context, { copies, factor, rate: originRate ?? 1e9 }));
  };
  const patience = { bounds: 4, seconds: 20 };
  const outcomes = await runRounds({ course, plan, boundSeconds, during, patience }, { signal });
  for (const { contender, entry } of outcomes) {
    const died = deaths.filter((death) => death.contender === contender);
    const alive = entry.rounds - died.length;
    if (alive === 0) continue;
    console.log(
      `${contender}: in ${alive} of ${entry.rounds} rounds all had finished before ${copies} copies had left`,
    );
  }
  const form = (value: number | undefined) => (value === undefined ? 'none' : formatRate(value));
  const parameters = {
    ...{ nodes, origin_rate: form(originRate), rate: form(rate), payload: formatSize(payloadBytes) },
    ...{ copies, lane: course.lane },
  };
  const verdict = allVerified(outcomes.slice(0, 1));
  await conclude('origin-death', { course, parameters, boundSeconds, outcomes, verdict }, { deaths });
}

/** Waits until so much has left the origin, and ends it: process and link. */
async function killOrigin(
  race: Race,
  { scene, contender, payload, round, signal }: DuringContext,
  { copies, factor, rate }: { readonly copies: number; readonly factor: number; readonly rate: number },
): Promise<Death> {
  const since = performance.now();
  const before = (await scene.counters()).originUp;
  for (;;) {
    const sent = ((await scene.counters()).originUp - before) / factor;
    const left = copies * payload.bytes - sent;
    if (left <= 0) {
      race.kill('origin');
      await scene.cutOrigin();
      const [seconds, died] = [(performance.now() - since) / 1000, sent / payload.bytes];
      console.log(`${' '.repeat(27)}origin killed after ${seconds.toFixed(2)} s, ${died.toFixed(3)} copies`);
      return { contender: contender.name, round, seconds, copies: died };
    }
    // Most of the time that the rest takes at the full rate, so that the counter costs little.
    await delay(Math.min(LONGEST_LOOK_MS, Math.max(LOOK_MS, (800 * left * 8) / rate)), undefined, { signal });
  }
}

function positive(course: Course, name: string): number {
  const value = Number(course.own[name]);
  if (value > 0) return value;
  throw new RangeError(`--${name} ${course.own[name]}: write a number such as 1.05`);
}
