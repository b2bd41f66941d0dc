import { type ParseArgsConfig, parseArgs } from 'node:util';
import { parseRate, parseSize } from '../../src/fleet/quantity.ts';
import { installed, peersNamed } from '../contender/peers.ts';
import type { Contender } from './contender.ts';
import { LANES, type Lane } from './lanes.ts';
import { ours } from './ours.ts';

/** What all benches of the scene can be told. Rates in bits per second, undefined for unshaped. */
export interface Course {
  readonly nodes: number;
  readonly originRate: number | undefined;
  readonly rate: number | undefined;
  readonly payloadBytes: number;
  readonly rounds: number;
  /** Of the payload, and of whatever a bench decides by chance. */
  readonly seed: number;
  readonly lane: Lane;
  readonly json: boolean;
  readonly directory: string | undefined;
  readonly profile: string | undefined;
  /** Ours first, then the peers that can run here. */
  readonly contenders: readonly Contender[];
  /** The bench's own flags. */
  readonly own: Readonly<Record<string, string>>;
  /** Whether everything is as the bench has it by itself, but for rounds, peers, seed and directory. */
  readonly usual: boolean;
}

/** Texts of flags, as they would be written on a command line. */
export interface CourseDefaults {
  readonly nodes: string;
  readonly 'origin-rate': string;
  readonly rate: string;
  readonly payload: string;
  readonly peers: string;
}

/** Flags that only one bench has: what it means, and its default. */
export type OwnFlags = Readonly<Record<string, readonly [meaning: string, value: string]>>;

const MEANINGS: Readonly<Record<string, string>> = {
  nodes: 'receivers',
  'origin-rate': 'the origin’s link, each way, or none for unshaped',
  rate: 'each node’s link, each way, or none',
  payload: 'size of the file, such as 256MiB',
  rounds: 'races of each contender; the median counts',
  peers: 'other programs beside ours: all, none, or names with commas',
  lane: `how our chunks travel: ${LANES.join(', ')}`,
  seed: 'of the payload and of all chance',
  directory: 'where all data is kept meanwhile, on a disk',
  profile: 'directory for CPU profiles of our agents',
};

/** What is the same for all of them. The lane is the one that takes least: the scene's segments count as trusted. */
const COMMON = { rounds: '3', lane: 'plain', seed: '1', directory: '', profile: '' };
/** They change who runs, how often and where, not what is measured. */
const ASIDE = ['rounds', 'peers', 'seed', 'directory', 'profile', 'json'];

/** The lines that `--help` shows. */
export function courseHelp(defaults: CourseDefaults, own: OwnFlags = {}): string[] {
  const ownMeanings = Object.fromEntries(Object.entries(own).map(([name, [meaning]]) => [name, meaning]));
  const values = allDefaults(defaults, own);
  const lines = Object.entries({ ...MEANINGS, ...ownMeanings }).map(([name, meaning]) => {
    const value = values[name] === '' ? 'none' : values[name];
    return `  --${name.padEnd(16)}${meaning} (${name === 'directory' ? 'the system’s for temporary files' : value})`;
  });
  return [...lines, '  --json            the last line of output is one JSON object'];
}

/** @throws {RangeError} a value that makes no sense; {TypeError} of parseArgs, an unknown flag. */
export async function parseCourse(argv: string[], defaults: CourseDefaults, own: OwnFlags = {}): Promise<Course> {
  const values = allDefaults(defaults, own);
  const options: NonNullable<ParseArgsConfig['options']> = { json: { type: 'boolean', default: false } };
  for (const [name, value] of Object.entries(values)) options[name] = { type: 'string', default: value };
  const given = parseArgs({ args: argv, options }).values as Record<string, string | boolean>;
  const text = (name: string) => String(given[name] ?? '');
  const lane = LANES.find((each) => each === text('lane'));
  if (lane === undefined) throw new RangeError(`--lane is one of ${LANES.join(', ')}`);
  const peers = await installed(peersNamed(text('peers')), (line) => console.error(line));
  return {
    nodes: whole('nodes', text('nodes')),
    originRate: rate('origin-rate', text('origin-rate')),
    rate: rate('rate', text('rate')),
    payloadBytes: size('payload', text('payload')),
    rounds: whole('rounds', text('rounds')),
    seed: whole('seed', text('seed')),
    lane,
    json: given['json'] === true,
    directory: text('directory') || undefined,
    profile: text('profile') || undefined,
    contenders: [ours({ lane }), ...peers],
    own: Object.fromEntries(Object.keys(own).map((name) => [name, text(name)])),
    usual: Object.entries(values).every(([name, value]) => ASIDE.includes(name) || text(name) === value),
  };
}

function allDefaults(defaults: CourseDefaults, own: OwnFlags): Record<string, string> {
  const ownValues = Object.fromEntries(Object.entries(own).map(([name, [, value]]) => [name, value]));
  return { ...defaults, ...COMMON, ...ownValues };
}

/** A whole number from 1. */
export function whole(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new RangeError(`--${name} ${text}: write a whole number from 1`);
}

/** Bits per second; undefined for `none`. */
export function rate(name: string, text: string): number | undefined {
  if (text === 'none') return undefined;
  const value = parseRate(text);
  if (value) return value;
  throw new RangeError(`--${name} ${text}: write a rate such as 100Mbit, or none`);
}

function size(name: string, text: string): number {
  const value = parseSize(text);
  if (value) return value;
  throw new RangeError(`--${name} ${text}: write a size such as 256MiB`);
}
