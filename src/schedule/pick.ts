import type { HaveMap } from './have-map.ts';
import type { WantList } from './want-list.ts';

/** An uploader as the picker sees it. `room` is used up by the picks of one call. */
export interface Uploader {
  readonly id: string;
  /** Of our site: bytes from it cost no uplink. */
  readonly near: boolean;
  readonly map: HaveMap;
  /** Bytes that may still be asked of it. */
  room: number;
}

export interface PickInput {
  readonly wanted: WantList;
  readonly uploaders: readonly Uploader[];
  /** Chunks that a reader waits for and that are neither held nor asked for. They need not be in `wanted`. */
  readonly urgent: ReadonlySet<number>;
  /** Plain size of a chunk, bytes. */
  size(index: number): number;
  /** A neighbour said that it is getting this chunk from a seed or from outside. */
  claimed(index: number): boolean;
  /** The first copy of this chunk is ours to fetch, from outside the site or from a seed inside it. */
  designated(index: number, from: 'outside' | 'seed'): boolean;
  /** Also take first copies that are somebody else's to fetch and that nobody claims: we would idle otherwise. */
  readonly steal: boolean;
  /** Urgent chunks that waited long enough for their designated fetcher. */
  overdue(index: number): boolean;
  /** At most this many picks. */
  readonly limit: number;
}

export interface Pick {
  readonly index: number;
  readonly uploader: Uploader;
}

/**
 * How many wanted chunks one pick looks at, at least, and for each that it may take: the rarest of a random sample are
 * rare enough, and looking at all of a large set for every few chunks is most of what a fast download costs.
 */
const SAMPLE = 64;
const SAMPLE_PER_PICK = 8;
/** A usual chunk, to tell how many of them fit into the uploaders' room. */
const TYPICAL_BYTES = 64 * 1024;

/**
 * Which chunk from whom next. Urgent chunks first, then the rarest, ties at random. A chunk that a neighbour holds
 * comes from a neighbour, from one that is no seed if possible, so that a seed sends each chunk once before it sends
 * any twice. A chunk that no neighbour holds (or that only seeds hold) is fetched by its designated node alone, and
 * so crosses the site's uplink once.
 */
export function pick(input: PickInput, random: () => number): Pick[] {
  const open = input.uploaders.filter((uploader) => uploader.room > 0);
  if (open.length === 0 || input.limit <= 0) return [];
  const most = Math.min(input.limit, Math.ceil(sum(open, (uploader) => uploader.room) / TYPICAL_BYTES));
  const candidates: { index: number; rank: number; tie: number }[] = [];
  const consider = (index: number) => {
    const holders = count(input.uploaders, index);
    if (holders > 0) candidates.push({ index, rank: input.urgent.has(index) ? -1 : holders, tie: random() });
  };
  for (const index of input.urgent) consider(index);
  for (const index of input.wanted.walk(Math.max(SAMPLE, SAMPLE_PER_PICK * most), random))
    if (!input.urgent.has(index)) consider(index);
  candidates.sort((a, b) => a.rank - b.rank || a.tie - b.tie);

  const picks: Pick[] = [];
  for (const { index } of candidates) {
    const uploader = chooseUploader(input, index, random);
    if (uploader === undefined) continue;
    uploader.room -= input.size(index);
    picks.push({ index, uploader });
    if (picks.length >= input.limit || !open.some((one) => one.room > 0)) break;
  }
  return picks;
}

function chooseUploader(input: PickInput, index: number, random: () => number): Uploader | undefined {
  const holders = input.uploaders.filter((uploader) => uploader.map.has(index));
  const near = holders.filter((uploader) => uploader.near);
  const spreaders = near.filter((uploader) => !uploader.map.complete);
  if (spreaders.length > 0) return roomiest(spreaders, random);
  const seeds = near.length > 0;
  if (!mayFetchFirst(input, index, seeds ? 'seed' : 'outside')) return undefined;
  return roomiest(seeds ? near : holders, random);
}

function mayFetchFirst(input: PickInput, index: number, from: 'outside' | 'seed'): boolean {
  if (input.claimed(index)) return false;
  return input.designated(index, from) || input.steal || input.overdue(index);
}

function roomiest(uploaders: readonly Uploader[], random: () => number): Uploader | undefined {
  let best: Uploader | undefined;
  let ties = 0;
  for (const uploader of uploaders) {
    if (uploader.room <= 0) continue;
    if (best === undefined || uploader.room > best.room) {
      best = uploader;
      ties = 1;
    } else if (uploader.room === best.room) {
      ties += 1;
      if (random() * ties < 1) best = uploader;
    }
  }
  return best;
}

function count(uploaders: readonly Uploader[], index: number): number {
  let holders = 0;
  for (const uploader of uploaders) if (uploader.map.has(index)) holders += 1;
  return holders;
}

function sum(uploaders: readonly Uploader[], of: (uploader: Uploader) => number): number {
  return uploaders.reduce((total, uploader) => total + of(uploader), 0);
}
