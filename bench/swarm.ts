import { formatRate, formatSize } from '../src/fleet/quantity.ts';
import { fluidBound } from './site/bound.ts';
import { type CourseDefaults, courseHelp, parseCourse } from './site/course.ts';
import { conclude } from './site/results.ts';
import { runRounds } from './site/rounds.ts';
import { aheadOfAll, allVerified, atMost, type Verdict } from './site/verdict.ts';

export const summary =
  'one origin, N nodes, shaped links: time until all have it, against the bound and other programs';

const DEFAULTS: CourseDefaults = {
  nodes: '8',
  'origin-rate': '100Mbit',
  rate: '100Mbit',
  payload: '256MiB',
  peers: 'all',
};
export const help = courseHelp(DEFAULTS);

/** Times over the bound that are promised, behind an origin of 100 Mbit/s: nodes, their rate, payload. */
const PROMISED: Readonly<Record<string, number>> = {
  '8 100Mbit 256MiB': 1.15,
  '16 100Mbit 256MiB': 1.2,
  '8 1Gbit 256MiB': 1.1,
  '16 1Gbit 256MiB': 1.1,
  '8 100Mbit 64MiB': 1.25,
};
/** Of the origin: payloads by the agent's count, and on the wire. */
const MOST_PAYLOAD = 1.03;
const MOST_WIRE = 1.08;

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const course = await parseCourse(argv, DEFAULTS);
  const { nodes, originRate, rate, payloadBytes } = course;
  const boundSeconds = fluidBound(payloadBytes, nodes, { originUp: originRate, nodeUp: rate, nodeDown: rate });
  const plan = {
    sites: [{ name: 'edge', nodes }],
    ...(originRate !== undefined && { originRate }),
    ...(rate !== undefined && { nodeRate: rate }),
  };
  const outcomes = await runRounds({ course, plan, boundSeconds }, { signal });
  const [{ entry }] = outcomes;
  const form = (value: number | undefined) => (value === undefined ? 'none' : formatRate(value));
  const parameters = {
    nodes,
    origin_rate: form(originRate),
    rate: form(rate),
    payload: formatSize(payloadBytes),
    lane: course.lane,
  };
  const most = PROMISED[`${nodes} ${parameters.rate} ${parameters.payload}`];
  const promised: Verdict =
    most === undefined || parameters.origin_rate !== '100Mbit'
      ? []
      : [
          ...atMost('time over the bound', entry.ratio_to_bound, most),
          ...atMost('payloads from the origin', entry.origin_payload, MOST_PAYLOAD),
          ...atMost('payloads from the origin, on the wire', entry.origin_egress, MOST_WIRE),
          ...aheadOfAll(outcomes),
        ];
  // What fails in other programs is in the record; a wrong copy of ours is a failure of this bench.
  const verdict = [...allVerified(outcomes.slice(0, 1)), ...promised];
  await conclude('swarm', { course, parameters, boundSeconds, outcomes, verdict });
}
