import { setTimeout as delay } from 'node:timers/promises';
import { formatRate, formatSize } from '../src/fleet/quantity.ts';
import { fluidBound } from './site/bound.ts';
import type { Race } from './site/contender.ts';
import { type CourseDefaults, courseHelp, type OwnFlags, parseCourse, whole } from './site/course.ts';
import { conclude } from './site/results.ts';
import { type DuringContext, type Outcome, runRounds } from './site/rounds.ts';
import { allVerified, atMost } from './site/verdict.ts';
import { seeded } from './store-crash/random.ts';

export const summary =
  'a share of the nodes is killed and restarted at random times: do all finish, what is fetched twice?';

const DEFAULTS: CourseDefaults = {
  nodes: '9',
  'origin-rate': '100Mbit',
  rate: '100Mbit',
  payload: '256MiB',
  peers: 'aria2',
};
const OWN: OwnFlags = {
  killed: ['nodes that are killed once each; 0 stands for a third', '0'],
};
export const help = courseHelp(DEFAULTS, OWN);

/** When a node is killed, in bounds from go, and for how long it stays away, seconds: evenly distributed. */
const KILLED = { from: 0.1, to: 0.8 };
const AWAY = { from: 0.5, to: 3 };
/** Payload bytes that a node may receive for each that it needs. */
const MOST_RECEIVED = 1.05;

interface Life {
  readonly node: number;
  /** Seconds from go. */
  readonly killedAt: number;
  readonly awaySeconds: number;
}

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const course = await parseCourse(argv, DEFAULTS, OWN);
  const { nodes, originRate, rate, payloadBytes, seed } = course;
  const killed = course.own['killed'] === '0' ? Math.ceil(nodes / 3) : whole('killed', course.own['killed'] ?? '');
  const boundSeconds = fluidBound(payloadBytes, nodes, { originUp: originRate, nodeUp: rate, nodeDown: rate });
  const plan = {
    sites: [{ name: 'edge', nodes }],
    ...(originRate !== undefined && { originRate }),
    ...(rate !== undefined && { nodeRate: rate }),
  };
  const told: { readonly contender: string; readonly round: number; readonly lives: readonly Life[] }[] = [];
  const during = async (race: Race, context: DuringContext) => {
    const { contender, round } = context;
    const lives = fates({ seed: `${seed} ${round}`, nodes, killed: Math.min(nodes, killed), boundSeconds });
    told.push({ contender: contender.name, round, lives });
    if (race.restart === undefined) throw new TypeError(`${contender.name} cannot be restarted`);
    // One after the other: while a node is away, nobody else may be.
    await Promise.all(lives.map((life) => live(race, life, context)));
  };
  const outcomes = await runRounds({ course, plan, boundSeconds, during }, { signal });
  const received = Math.max(...outcomes[0].heats.flatMap(({ payloadReceived }) => payloadReceived ?? []));
  const form = (value: number | undefined) => (value === undefined ? 'none' : formatRate(value));
  const parameters = {
    ...{ nodes, killed, origin_rate: form(originRate), rate: form(rate), payload: formatSize(payloadBytes) },
    lane: course.lane,
  };
  const most = Math.round((1000 * received) / payloadBytes) / 1000;
  const verdict = [
    ...allVerified(outcomes.slice(0, 1)),
    ...atMost('payload that one node received for what it needed', most, MOST_RECEIVED),
  ];
  console.log(`ours: the node that received most got ${most} payloads`);
  const shares = Object.fromEntries(outcomes.map((outcome) => [outcome.contender, sharesOf(outcome, payloadBytes)]));
  const extra = { most_received: most, received: shares, lives: told };
  await conclude('churn', { course, parameters, boundSeconds, outcomes, verdict }, extra);
}

/** Who is killed when, and for how long: follows from the seed. */
function fates(of: {
  readonly seed: string;
  readonly nodes: number;
  readonly killed: number;
  readonly boundSeconds: number;
}): Life[] {
  const random = seeded(of.seed);
  const between = ({ from, to }: { readonly from: number; readonly to: number }) => from + random() * (to - from);
  const nodes = Array.from({ length: of.nodes }, (_, node) => ({ node, lot: random() }));
  return nodes
    .sort((a, b) => a.lot - b.lot)
    .slice(0, of.killed)
    .map(({ node }) => ({ node, killedAt: between(KILLED) * of.boundSeconds, awaySeconds: between(AWAY) }));
}

async function live(race: Race, { node, killedAt, awaySeconds }: Life, { signal }: DuringContext): Promise<void> {
  await delay(killedAt * 1000, undefined, { signal });
  // The count dies with the process.
  await race.payloadReceived?.();
  race.kill(node);
  await delay(awaySeconds * 1000, undefined, { signal });
  await race.restart?.(node);
}

/** Payloads that each node received, round by round. */
function sharesOf({ heats }: Outcome, payloadBytes: number): number[][] {
  return heats.map(({ payloadReceived }) =>
    (payloadReceived ?? []).map((bytes) => Math.round((1000 * bytes) / payloadBytes) / 1000),
  );
}
