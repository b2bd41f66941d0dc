import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { enrolDiskless, liveAtTheEdge, type Step } from './overlay/edge.ts';
import { HOLDER, type Nat, OverlayFleet } from './overlay/fleet.ts';
import { type Meeting, meet } from './overlay/meeting.ts';
import { record, signed } from './record/result.ts';
import { writeSection } from './record/section.ts';
import { markdownTable } from './record/table.ts';

export const summary = 'two sites behind NATs: a chunk between every two nodes, and all that a site does alone';
export const help = [
  '  --nodes N     in the two sites together, besides one gateway outside (default 16)',
  '  --nat WHICH   kept, random or both (default both)',
  '  --no-edge     without the site that is cut off',
];

/** Bytes of the release that everybody follows: a kernel of a few chunks, and an initramfs. */
const RELEASE = { kernel: 600_000, initramfs: 200_000 };

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const { values } = parseArgs({
    args: argv,
    options: {
      // Its last line is JSON in any case.
      json: { type: 'boolean', default: false },
      nodes: { type: 'string', default: '16' },
      nat: { type: 'string', default: 'both' },
      'no-edge': { type: 'boolean', default: false },
    },
  });
  const nodes = Number(values.nodes);
  if (!(nodes >= 8)) throw new RangeError('--nodes is a number of at least 8: the edge takes four of one site');
  const nats = (['random', 'kept'] as const).filter((nat) => values.nat === 'both' || values.nat === nat);
  if (nats.length === 0) throw new RangeError('--nat is kept, random or both');
  const say = (line: string) => console.error(line);
  const meetings: Meeting[] = [];
  let edge: Step[] | undefined;
  const failures: string[] = [];
  for (const nat of nats) {
    try {
      const stays = nat === nats.at(-1) && !values['no-edge'];
      const found = await oneFleet(nodes, nat, stays, { signal, say });
      meetings.push(found.meeting);
      edge ??= found.edge;
    } catch (error) {
      signal.throwIfAborted();
      failures.push(`${nat}: ${error instanceof Error ? error.message : error}`);
    }
  }
  failures.push(...meetings.flatMap(faultsOf));
  const ok = failures.length === 0;
  const result = signed({ ok, bench: 'overlay', nodes, meetings, ...(edge && { edge }), failures });
  const text = describe(meetings, edge);
  console.log(text);
  for (const failure of failures) console.log(`does not hold: ${failure}`);
  const whole = ok && nodes === 16 && nats.length === 2 && edge !== undefined;
  if (whole) {
    await record('overlay', result);
    const { cpu, cores, kernel, node } = result.machine;
    const where = `${result.when.slice(0, 10)}: ${cpu}, ${cores} cores, Linux ${kernel}, Node ${node}.`;
    await writeSection('overlay', `${text}\n\n${where}`);
  }
  console.log(JSON.stringify(result));
  if (!ok) process.exitCode = 1;
}

async function oneFleet(
  nodes: number,
  nat: Nat,
  atTheEdge: boolean,
  options: { readonly signal: AbortSignal; readonly say: (line: string) => void },
): Promise<{ readonly meeting: Meeting; readonly edge?: Step[] }> {
  const { signal, say } = options;
  await using fleet = await OverlayFleet.open(nodes, nat, { signal });
  say(`${nat}: ${fleet.running.size} agents are up`);
  const files = await Promise.all(
    Object.entries(RELEASE).map(async ([role, bytes]) => {
      const file = join(fleet.directory, role);
      await writeFile(file, randomBytes(bytes));
      return [`--${role}`, file];
    }),
  );
  await fleet.lab.bootmesh(HOLDER, ['publish', '--channel', 'production', ...files.flat()], { signal });
  await enrolDiskless(fleet, { signal });
  const meeting = await meet(fleet, nat, options);
  if (!atTheEdge) return { meeting };
  return { meeting, edge: await liveAtTheEdge(fleet, options) };
}

function faultsOf({ nat, pairs, chunks, wrong }: Meeting): string[] {
  return [
    ...(chunks === 2 * pairs ? [] : [`${nat}: ${chunks} chunks came of ${2 * pairs}`]),
    ...wrong.map((line) => `${nat}: wg show at ${line}`),
  ];
}

function describe(meetings: readonly Meeting[], edge: readonly Step[] | undefined): string {
  const ways = [...new Set(meetings.flatMap(({ paths }) => Object.keys(paths)))].toSorted();
  const rows = meetings.map(({ nat, nodes, meshed_ms, pairs, chunks, paths, median_ms, interfaces, wrong }) => [
    nat,
    String(nodes),
    (meshed_ms / 1000).toFixed(1),
    `${chunks} of ${2 * pairs}`,
    ...ways.map((way) => (paths[way] === undefined ? '-' : `${paths[way]} (${median_ms[way]} ms)`)),
    `${interfaces - wrong.length} of ${interfaces}`,
  ]);
  const table = markdownTable(['ports', 'nodes', 'all met, s', 'chunks', ...ways, '`wg show` as entitled'], rows);
  if (edge === undefined) return table;
  const steps = markdownTable(
    ['a site without WAN', 's'],
    edge.map(({ step, ms }) => [step, (ms / 1000).toFixed(1)]),
  );
  return `${table}\n\n${steps}`;
}
