import { type Random, sample } from './random.ts';
import type { Scenario } from './scenario.ts';

/** Who is where and knows whom at the start. The origin is the last node. */
export interface Topology {
  readonly origin: number;
  /** Site of each node. An origin that is nobody's neighbour, behind no uplink, has the place after the last site. */
  readonly placeOf: Int32Array;
  readonly members: readonly (readonly number[])[];
  /** Nodes of each site that keep links to other sites. */
  readonly gateways: readonly (readonly number[])[];
  readonly pairs: readonly (readonly [number, number])[];
}

/**
 * Each site is a full mesh while its nodes are few enough, else a random graph. A few gateways of each site know
 * gateways of other sites, and as many of them know the origin as it takes, every site's first one before any second.
 */
export function layOut(s: Scenario, random: Random): Topology {
  const origin = s.nodes;
  const placeOf = new Int32Array(s.nodes + 1).fill(s.originNear ? 0 : s.sites);
  const members: number[][] = Array.from({ length: s.sites }, () => []);
  for (let node = 0; node < s.nodes; node += 1) {
    const site = Math.floor((node * s.sites) / s.nodes);
    placeOf[node] = site;
    members[site]?.push(node);
  }
  const gateways = members.map((nodes) => sample(nodes, s.gateways, random));
  const pairs = new Pairs();
  for (const nodes of members) meshOf(nodes, s.neighbours, random, pairs);
  // Who fetches from outside must hear who else does.
  for (const own of gateways) meshOf(own, own.length, random, pairs);
  linkOrigin(s, gateways, members, pairs);
  gateways.forEach((own, site) => {
    for (const node of own) for (const other of strangers(gateways, site, s.farLinks, random)) pairs.add(node, other);
  });
  return { origin, placeOf, members, gateways, pairs: pairs.list };
}

/** Up to `count` gateways of other sites than `site`. */
export function strangers(
  gateways: readonly (readonly number[])[],
  site: number,
  count: number,
  random: Random,
): number[] {
  const found = new Set<number>();
  if (gateways.length < 2) return [];
  for (let tries = 0; found.size < count && tries < 8 * count; tries += 1) {
    const other = Math.floor(random() * (gateways.length - 1));
    const [node] = sample(gateways[other < site ? other : other + 1] ?? [], 1, random);
    if (node !== undefined) found.add(node);
  }
  return [...found];
}

class Pairs {
  readonly list: (readonly [number, number])[] = [];
  readonly #known = new Set<number>();

  add(a: number, b: number): void {
    const key = Math.min(a, b) * 2 ** 26 + Math.max(a, b);
    if (a === b || this.#known.has(key)) return;
    this.#known.add(key);
    this.list.push([a, b]);
  }
}

function meshOf(nodes: readonly number[], neighbours: number, random: Random, pairs: Pairs): void {
  const full = nodes.length - 1 <= neighbours;
  nodes.forEach((node, n) => {
    if (full) for (const other of nodes.slice(n + 1)) pairs.add(node, other);
    else for (const other of sample(nodes, Math.ceil(neighbours / 2), random)) pairs.add(node, other);
  });
}

function linkOrigin(
  s: Scenario,
  gateways: readonly (readonly number[])[],
  members: readonly (readonly number[])[],
  pairs: Pairs,
): void {
  const takers = s.originNear ? [members[0] ?? [], ...gateways.slice(1)] : gateways;
  const longest = Math.max(...takers.map(({ length }) => length));
  let links = 0;
  for (let round = 0; round < longest; round += 1) {
    for (const taker of takers) {
      const node = taker[round];
      if (node === undefined || links >= s.originLinks) continue;
      pairs.add(s.nodes, node);
      links += 1;
    }
  }
}
