import { formatRate, formatSize } from '../src/fleet/quantity.ts';
import { fluidBound } from './site/bound.ts';
import { type CourseDefaults, courseHelp, type OwnFlags, parseCourse, rate, whole } from './site/course.ts';
import { conclude } from './site/results.ts';
import { runRounds } from './site/rounds.ts';
import { allVerified, atMost } from './site/verdict.ts';

export const summary = 'sites behind thin uplinks, the origin outside: what each uplink carries, and how long it takes';

const DEFAULTS: CourseDefaults = {
  nodes: '8',
  'origin-rate': '1Gbit',
  rate: '1Gbit',
  payload: '256MiB',
  peers: 'aria2,libtorrent-super',
};
const OWN: OwnFlags = {
  sites: ['sites, each with so many --nodes', '2'],
  uplink: ['rate of each site’s uplink, each way', '20Mbit'],
};
export const help = courseHelp(DEFAULTS, OWN);

/** Payloads that an uplink may carry on the wire, each way, and times over the bound. */
const MOST_CARRIED = 1.08;
const MOST_TIME = 1.15;

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const course = await parseCourse(argv, DEFAULTS, OWN);
  const { nodes, originRate, payloadBytes } = course;
  const sites = whole('sites', course.own['sites'] ?? '');
  const uplink = rate('uplink', course.own['uplink'] ?? '');
  if (uplink === undefined) throw new RangeError('--uplink none: the uplinks are what is measured');
  // Each site's first copy crosses its uplink; all first copies leave the origin, or another site.
  const rates = { originUp: originRate, nodeUp: uplink, nodeDown: uplink };
  const inside = { originUp: uplink, nodeUp: course.rate, nodeDown: course.rate };
  const boundSeconds = Math.max(fluidBound(payloadBytes, sites, rates), fluidBound(payloadBytes, nodes, inside));
  const plan = {
    sites: Array.from({ length: sites }, (_, at) => ({
      name: `site-${at + 1}`,
      nodes,
      uplink: { up: uplink, down: uplink },
    })),
    ...(originRate !== undefined && { originRate }),
    ...(course.rate !== undefined && { nodeRate: course.rate }),
  };
  const patience = { bounds: 10, seconds: 60 };
  const outcomes = await runRounds({ course, plan, boundSeconds, patience }, { signal });
  for (const { contender, entry } of outcomes) {
    const each = Object.entries(entry.uplinks).map(([site, { down, up }]) => `${site} ${down} down, ${up} up`);
    console.log(`${contender}: payloads over the uplinks, on the wire: ${each.join('; ')}`);
  }
  const form = (value: number | undefined) => (value === undefined ? 'none' : formatRate(value));
  const parameters = {
    ...{ sites, nodes, uplink: formatRate(uplink), origin_rate: form(originRate), rate: form(course.rate) },
    ...{ payload: formatSize(payloadBytes), lane: course.lane },
  };
  const [{ entry }] = outcomes;
  const carried = Object.entries(entry.uplinks).flatMap(([site, { down, up }]) => [
    ...atMost(`payloads into ${site}`, down, MOST_CARRIED),
    ...atMost(`payloads out of ${site}`, up, MOST_CARRIED),
  ]);
  const promised = course.usual ? [...carried, ...atMost('time over the bound', entry.ratio_to_bound, MOST_TIME)] : [];
  const verdict = [...allVerified(outcomes.slice(0, 1)), ...promised];
  await conclude('wan', { course, parameters, boundSeconds, outcomes, verdict });
}
