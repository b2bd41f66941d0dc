import { DEFAULT_CHUNK_SIZES } from '../../src/content/chunker.ts';

/** What is simulated. Rates are bits per second, times milliseconds, shares between 0 and 1. */
export interface Scenario {
  readonly seed: number;
  /** Nodes that want the payload; the origin comes on top. */
  readonly nodes: number;
  /** Sites that the nodes are spread over evenly. */
  readonly sites: number;
  readonly chunks: number;
  readonly chunkBytes: number;
  /** The origin's link, each way. */
  readonly originRate: number;
  /** A node's link, each way. */
  readonly nodeRate: number;
  /** A site's uplink, each way. undefined: nothing but the nodes' own links limits one site. */
  readonly uplinkRate: number | undefined;
  /** The origin is a neighbour in the first site, and not a stranger to all. */
  readonly originNear: boolean;
  readonly nearDelayMs: number;
  readonly farDelayMs: number;
  /** What a message takes besides its way: queues, the event loop of a busy process. */
  readonly messageMs: number;
  /** From a chunk's last byte to its place in the store: hash, write. */
  readonly storeMs: number;
  /** Chunks that one sender has under way to one receiver: what the sockets between them hold. */
  readonly underWay: number;
  /** Share of the nodes that lie. */
  readonly liars: number;
  /** Share of the nodes that go down each minute; each comes back. */
  readonly churn: number;
  /** Shortest and longest time that a node is down. */
  readonly downMs: readonly [number, number];
  /** A death that nobody announces is noticed by silence of the connection after this long (ping, TCP). */
  readonly unnoticedMs: number;
  /** Links of one node to its neighbours, at most. */
  readonly neighbours: number;
  /** Nodes of a site that keep links to other sites, and how many each. */
  readonly gateways: number;
  readonly farLinks: number;
  /** Links of the origin, at most. */
  readonly originLinks: number;
  /** All start within this time. */
  readonly startMs: number;
  /** Simulated time after which the run is given up. */
  readonly limitMs: number;
  /** False leaves out the check of what arrives, which shows that the audit at the end can fail. */
  readonly verify: boolean;
}

const MBIT = 1e6;

export const SCENARIO_DEFAULTS: Scenario = {
  seed: 1,
  nodes: 1_000,
  sites: 20,
  chunks: 1_024,
  chunkBytes: DEFAULT_CHUNK_SIZES.average,
  originRate: 200 * MBIT,
  nodeRate: 1_000 * MBIT,
  uplinkRate: 20 * MBIT,
  originNear: false,
  nearDelayMs: 0.2,
  farDelayMs: 10,
  messageMs: 1,
  storeMs: 1,
  underWay: 2,
  liars: 0.05,
  churn: 0.1,
  downMs: [2_000, 20_000],
  unnoticedMs: 5_000,
  neighbours: 8,
  gateways: 4,
  farLinks: 4,
  originLinks: 256,
  startMs: 1_000,
  limitMs: 3_600_000,
  verify: true,
};

/**
 * The least time in which all can have the payload, milliseconds: payload bits alone, no headers, no delay, nobody
 * down (Kumar, Ross 2006; for sites see design/benchmarks.md, bound 5).
 */
export function bound(s: Scenario, payloadBytes: number): number {
  const bits = payloadBytes * 8;
  const perSite = Math.ceil(s.nodes / s.sites);
  const bounds = [bits / s.originRate, bits / s.nodeRate];
  if (s.uplinkRate === undefined) {
    bounds.push((s.nodes * bits) / (s.originRate + s.nodes * s.nodeRate));
  } else {
    bounds.push(bits / s.uplinkRate);
    bounds.push((s.sites * bits) / (s.originRate + s.sites * s.uplinkRate));
    bounds.push((perSite * bits) / (s.uplinkRate + perSite * s.nodeRate));
  }
  return Math.max(...bounds) * 1000;
}

/** @throws RangeError for what cannot be simulated. */
export function checked(s: Scenario): Scenario {
  const whole = (name: string, value: number, least: number) => {
    if (!Number.isInteger(value) || value < least) throw new RangeError(`${name} must be a whole number from ${least}`);
  };
  whole('nodes', s.nodes, 1);
  whole('sites', s.sites, 1);
  whole('chunks', s.chunks, 1);
  whole('neighbours', s.neighbours, 1);
  if (s.sites > s.nodes) throw new RangeError('every site needs a node');
  if (s.uplinkRate === undefined && s.sites > 1) throw new RangeError('several sites need uplinks');
  for (const rate of [s.originRate, s.nodeRate, s.uplinkRate ?? 1])
    if (!(rate > 0)) throw new RangeError('rates must be positive');
  if (!(s.liars >= 0 && s.liars < 1)) throw new RangeError('liars are a share below 1');
  if (!(s.churn >= 0)) throw new RangeError('churn cannot be negative');
  return s;
}
