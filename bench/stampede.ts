import { formatRate, formatSize } from '../src/fleet/quantity.ts';
import { fluidBound } from './site/bound.ts';
import { type CourseDefaults, courseHelp, parseCourse } from './site/course.ts';
import { conclude } from './site/results.ts';
import { runRounds } from './site/rounds.ts';
import { allVerified, atMost } from './site/verdict.ts';

export const summary = 'all machines of a rack start in the same moment: how long the median and the last of them wait';

const DEFAULTS: CourseDefaults = {
  nodes: '16',
  'origin-rate': '100Mbit',
  rate: '1Gbit',
  payload: '256MiB',
  peers: 'aria2',
};
export const help = courseHelp(DEFAULTS);

/** Times over the bound that 99 of 100 nodes may take. */
const MOST_P99 = 1.5;

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
  for (const { contender, entry } of outcomes) {
    console.log(`${contender}: p50 ${entry.ratio_p50} × bound, p99 ${entry.ratio_p99} × bound`);
  }
  const form = (value: number | undefined) => (value === undefined ? 'none' : formatRate(value));
  const parameters = {
    ...{ nodes, origin_rate: form(originRate), rate: form(rate), payload: formatSize(payloadBytes) },
    lane: course.lane,
  };
  const promised = course.usual ? atMost('p99 over the bound', outcomes[0].entry.ratio_p99, MOST_P99) : [];
  const verdict = [...allVerified(outcomes.slice(0, 1)), ...promised];
  await conclude('stampede', { course, parameters, boundSeconds, outcomes, verdict });
}
