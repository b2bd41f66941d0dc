import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { DEFAULT_CHUNK_SIZES } from '../src/content/chunker.ts';
import { formatRate, parseRate, parseSize } from '../src/fleet/quantity.ts';
import { casync } from './delta/casync.ts';
import { ours } from './delta/ours.ts';
import { type Entry, entryOf, runRound } from './delta/round.ts';
import type { Updater } from './delta/updater.ts';
import { kernelPair, randomPair, type VersionPair } from './delta/version-pair.ts';
import { zsync } from './delta/zsync.ts';
import { thisMachine } from './record/machine.ts';
import { record, signed } from './record/result.ts';
import { writeSection } from './record/section.ts';
import { markdownTable } from './record/table.ts';
import { openScene } from './site/scene.ts';

export const summary = 'bytes on the wire until a node that has one version has the next one, against casync and zsync';
export const help = [
  '  --payload 256MiB  of the random pair',
  '  --rate 100Mbit    of the origin’s link, each way',
  '  --rounds 3        fewer are not recorded',
  '  --seed 1          of the random pair',
  '  --pairs random,kernel',
  '  --peers casync,zsync   or none',
  '  --cache DIR       where the kernel packages are kept (default: .cache/chunk-size)',
];

const RECORDED_ROUNDS = 3;
/** By how much our counters may differ from the interface's without headers. */
const MOST_UNCOUNTED = 0.02;

/** By updater, then by pair. */
type Entries = Readonly<Record<string, Readonly<Record<string, Entry>>>>;

export async function run(argv: string[], { signal }: { signal: AbortSignal }): Promise<void> {
  const { values } = parseArgs({
    args: argv,
    options: {
      json: { type: 'boolean', default: false },
      payload: { type: 'string', default: '256MiB' },
      rate: { type: 'string', default: '100Mbit' },
      rounds: { type: 'string', default: '3' },
      seed: { type: 'string', default: '1' },
      pairs: { type: 'string', default: 'random,kernel' },
      peers: { type: 'string', default: 'casync,zsync' },
      cache: { type: 'string', default: fileURLToPath(new URL('../.cache/chunk-size', import.meta.url)) },
    },
  });
  const [rounds, seed] = [Number(values.rounds), Number(values.seed)];
  if (!(Number.isInteger(rounds) && rounds > 0 && Number.isInteger(seed)))
    throw new RangeError('--rounds and --seed are whole numbers');
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'bm-delta-'));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  const pairs: VersionPair[] = [];
  for (const name of values.pairs.split(',')) {
    if (name === 'random') pairs.push(await randomPair(directory, sizeOf(values.payload), seed));
    else if (name === 'kernel') pairs.push(await kernelPair(directory, values.cache, signal));
    else throw new RangeError(`--pairs: there is no pair ${name}`);
  }
  const rate = rateOf(values.rate);
  const scene = stack.use(await openScene({ sites: [{ name: 'edge', nodes: 1 }], originRate: rate }, { signal }));
  const peers = await peersOf(values.peers);
  const entries: Record<string, Record<string, Entry>> = {};
  for (const updater of [ours('store'), ours('seed'), ...peers]) {
    const version = await updater.version();
    for (const pair of pairs) {
      const all: Awaited<ReturnType<typeof runRound>>[] = [];
      for (let round = 0; round < rounds; round += 1) {
        all.push(await runRound(scene, updater, pair, signal));
        console.error(`${updater.name}, ${pair.name}, round ${round + 1}: ${JSON.stringify(all.at(-1))}`);
      }
      entries[updater.name] = { ...entries[updater.name], [pair.name]: entryOf(all, pair, version) };
    }
  }
  console.log(table(entries, pairs));
  const failures = verdict(entries, pairs);
  for (const failure of failures) console.error(`FAILED  ${failure}`);
  if (failures.length > 0) process.exitCode = 1;
  const { ours: stored, 'ours --seed': seeded, ...others } = entries;
  const own = {
    ...stored,
    ...Object.fromEntries(Object.entries(seeded ?? {}).map(([pair, entry]) => [`${pair} --seed`, entry])),
  };
  const facts = {
    ...{ rounds, seed, payload: values.payload, origin_rate: formatRate(rate), chunk_sizes: DEFAULT_CHUNK_SIZES },
    ...{ pairs: Object.fromEntries(pairs.map(({ name, what, after }) => [name, { what, bytes: after.bytes }])) },
    ...{ ok: failures.length === 0, failures, ours: own, peers: others },
  };
  if (rounds >= RECORDED_ROUNDS) {
    await record('delta', signed({ bench: 'delta', ...facts }));
    await writeSection('delta', table(entries, pairs));
  } else console.log(`not recorded: a median needs --rounds ${RECORDED_ROUNDS}`);
  if (values.json) console.log(JSON.stringify({ ours: own, peers: others, machine: thisMachine() }));
}

function rateOf(text: string): number {
  const rate = parseRate(text);
  if (rate === undefined) throw new RangeError(`--rate ${text} is no rate such as 100Mbit`);
  return rate;
}

function sizeOf(text: string): number {
  const bytes = parseSize(text);
  if (bytes === undefined) throw new RangeError(`--payload ${text} is no size such as 256MiB`);
  return bytes;
}

/** Those that can run here; the others are named. */
async function peersOf(text: string): Promise<Updater[]> {
  const known = [casync(DEFAULT_CHUNK_SIZES.average), zsync];
  const names = text === 'none' ? [] : text.split(',');
  const unknown = names.find((name) => !known.some((peer) => peer.name === name));
  if (unknown !== undefined) throw new RangeError(`--peers: there is no peer ${unknown}`);
  const able: Updater[] = [];
  for (const peer of known.filter(({ name }) => names.includes(name))) {
    const missing = await peer.missing();
    if (missing === undefined) able.push(peer);
    else console.log(`${peer.name} is left out; it needs ${missing}`);
  }
  return able;
}

/** What does not hold, as sentences. */
function verdict(entries: Entries, pairs: readonly VersionPair[]): string[] {
  const failures: string[] = [];
  for (const [name, byPair] of Object.entries(entries)) {
    for (const [pair, { verified, uncounted = 0 }] of Object.entries(byPair)) {
      if (verified === 0) failures.push(`${name}, ${pair}: the copy has another sha256`);
      if (Math.abs(uncounted) > MOST_UNCOUNTED) {
        failures.push(
          `${name}, ${pair}: our counters differ by ${uncounted} from the interface, at most ${MOST_UNCOUNTED}`,
        );
      }
    }
  }
  const bounds: Readonly<Record<string, readonly string[]>> = { random: ['casync'], kernel: ['casync', 'zsync'] };
  for (const { name } of pairs) {
    for (const peer of bounds[name] ?? []) {
      const [own, theirs] = [entries['ours']?.[name], entries[peer]?.[name]];
      if (own !== undefined && theirs !== undefined && own.wire_bytes > theirs.wire_bytes) {
        failures.push(`${name}: ${own.wire_bytes} bytes crossed the wire, ${theirs.wire_bytes} with ${peer}`);
      }
    }
  }
  return failures;
}

function table(entries: Entries, pairs: readonly VersionPair[]): string {
  const rows = Object.entries(entries).flatMap(([name, byPair]) =>
    pairs.flatMap((pair) => {
      const entry = byPair[pair.name];
      if (entry === undefined) return [];
      const { share, wire_bytes, seconds, uncounted } = entry;
      return [
        [name, pair.name, (wire_bytes / 1e6).toFixed(2), share.toFixed(4), seconds.toFixed(2), String(uncounted ?? '')],
      ];
    }),
  );
  return markdownTable(['updater', 'pair', 'MB on the wire', 'of the file', 'seconds', 'uncounted'], rows);
}
