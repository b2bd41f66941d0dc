import { join } from 'node:path';
import { formatSize } from '../src/fleet/quantity.ts';
import { type CpuEntry, publishCpu } from './chart/cpu.ts';
import { warmed } from './contender/warmed.ts';
import { thisMachine } from './record/machine.ts';
import { record, signed } from './record/result.ts';
import type { Contender } from './site/contender.ts';
import { type CourseDefaults, courseHelp, type OwnFlags, parseCourse } from './site/course.ts';
import { entryOf } from './site/entry.ts';
import { LANES, type Lane } from './site/lanes.ts';
import { ours } from './site/ours.ts';
import { makePayload } from './site/payload.ts';
import { type Heat, runRace } from './site/race.ts';
import { openScene } from './site/scene.ts';
import { atMost, type Verdict } from './site/verdict.ts';

export const summary = 'one unshaped, trusted segment: CPU seconds per delivered GB, MB/s and memory, for each lane';

const DEFAULTS: CourseDefaults = {
  nodes: '4',
  'origin-rate': 'none',
  rate: 'none',
  payload: '1GiB',
  peers: 'nginx,aria2,libtorrent-tuned,bare-node',
};
const OWN: OwnFlags = { lanes: ['our lanes, the promised one first', 'plain,tls,libp2p'] };
export const help = courseHelp(DEFAULTS, OWN);

/** Who is to be beaten, in CPU time and in speed. */
const RIVAL = 'aria2';
/** Of each agent, on any lane. */
const MOST_RSS_MB = 350;
const MOST_GROWN_RSS_MB = 150;
/** Nobody takes so long for a payload here, milliseconds. */
const LIMIT_MS = 180_000;
const RECORDED_ROUNDS = 3;

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const course = await parseCourse(argv, DEFAULTS, OWN);
  const { nodes, payloadBytes, rounds, seed, directory, profile } = course;
  const [, ...peers] = course.contenders;
  const lanes = (course.own['lanes'] ?? '').split(',').map(onLane);
  await using scene = await openScene(
    {
      ...{ sites: [{ name: 'edge', nodes }], originSite: 'edge' },
      ...{ ...(directory !== undefined && { directory }), ...(profile !== undefined && { profile }) },
    },
    { signal },
  );
  const payload = await makePayload(join(scene.directory, 'payload', 'payload.bin'), payloadBytes, seed);
  const heats = new Map<Contender, Heat[]>([...lanes, ...peers].map((contender) => [warmed(contender), []]));
  for (let round = 1; round <= rounds; round += 1) {
    for (const [contender, done] of heats) {
      signal.throwIfAborted();
      const heat = await runRace(scene, contender, payload, { signal, limitMs: LIMIT_MS });
      done.push(heat);
      console.log(
        `round ${round}  ${contender.name.padEnd(18)}${line(await entryFrom([heat], contender, payloadBytes))}`,
      );
    }
  }
  const entries: Record<string, CpuEntry> = {};
  for (const [contender, done] of heats) entries[contender.name] = await entryFrom(done, contender, payloadBytes);

  const verdict = judge(
    lanes.map(({ name }) => name),
    entries,
  );
  for (const fault of verdict) console.error(`FAILED  ${fault}`);
  if (verdict.length > 0) process.exitCode = 1;
  if (rounds >= RECORDED_ROUNDS && course.usual) {
    const kept = {
      payload: formatSize(payloadBytes),
      nodes,
      rounds,
      seed,
      ok: verdict.length === 0,
      failures: verdict,
    };
    await record('cpu', signed({ ...kept, entries }));
    await publishCpu();
  } else console.log(`not recorded: that needs --rounds ${RECORDED_ROUNDS}, and all else as it is by default`);
  if (course.json) {
    const of = (some: readonly Contender[]) => Object.fromEntries(some.map(({ name }) => [name, entries[name]]));
    const ours = { ...entries[lanes[0]?.name ?? ''], lanes: of(lanes) };
    console.log(JSON.stringify({ ours, peers: of(peers), machine: thisMachine() }));
  }
}

function onLane(text: string): Contender {
  const lane: Lane | undefined = LANES.find((each) => each === text);
  if (lane === undefined) throw new RangeError(`--lanes knows ${LANES.join(', ')}, not '${text}'`);
  return { ...ours({ lane }), name: `ours, ${lane}` };
}

async function entryFrom(heats: readonly Heat[], contender: Contender, payloadBytes: number): Promise<CpuEntry> {
  // Without rates there is no bound, and no ratio to it.
  const entry = entryOf(heats, await contender.version(), { payloadBytes, boundSeconds: Number.NaN });
  const { n, rounds, seconds, cpu_s_per_gb, machine_idle_percent, origin_egress, finished, verified, version } = entry;
  const { peak_rss_mb, idle_rss_mb, grown_rss_mb, lane } = entry;
  return {
    ...{ version, n, rounds, seconds, cpu_s_per_gb, machine_idle_percent, origin_egress, finished, verified },
    ...{ peak_rss_mb, idle_rss_mb, grown_rss_mb, ...(lane !== undefined && { lane }) },
    mb_per_s: seconds === null ? null : Math.round((n * payloadBytes) / 1e5 / seconds) / 10,
  };
}

/** The first of our lanes is promised to be ahead of the rival; the memory of all of them is bounded. */
function judge(ours: readonly string[], entries: Readonly<Record<string, CpuEntry>>): Verdict {
  const [best, rival] = [entries[ours[0] ?? ''], entries[RIVAL]];
  const ahead =
    rival === undefined
      ? []
      : [
          ...atMost(`CPU s/GB beside ${RIVAL}`, best?.cpu_s_per_gb, rival.cpu_s_per_gb),
          ...atMost(`time beside ${RIVAL}`, best?.seconds, rival.seconds ?? Number.POSITIVE_INFINITY),
        ];
  const sound = ours.flatMap((name) => [
    ...(entries[name]?.verified === entries[name]?.n ? [] : [`${name}: not every node has a right copy`]),
    ...atMost(`${name}: peak RSS MB`, entries[name]?.peak_rss_mb, MOST_RSS_MB),
    ...atMost(`${name}: growth of RSS MB`, entries[name]?.grown_rss_mb, MOST_GROWN_RSS_MB),
  ]);
  return [...ahead, ...sound];
}

function line({ mb_per_s, cpu_s_per_gb, idle_rss_mb, peak_rss_mb, grown_rss_mb, verified, n }: CpuEntry): string {
  const memory = `RSS ${idle_rss_mb.toFixed(0)} → ${peak_rss_mb.toFixed(0)} MB, one grew by ${grown_rss_mb.toFixed(0)}`;
  return `${verified}/${n} verified; ${mb_per_s ?? '–'} MB/s; CPU ${cpu_s_per_gb.toFixed(2)} s/GB; ${memory}`;
}
