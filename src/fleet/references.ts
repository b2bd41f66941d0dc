import { multiaddr } from '@multiformats/multiaddr';

/** The part of a description that names other parts of it. */
interface References {
  readonly trust?: unknown;
  readonly overlay?: boolean;
  readonly sites: Readonly<Record<string, unknown>>;
  readonly segments: Readonly<Record<string, { readonly site: string }>>;
  readonly nodes: Readonly<Record<string, NodeReferences>>;
  readonly machines: Readonly<Record<string, { readonly segment: string }>>;
}

interface NodeReferences {
  readonly site: string;
  /** Empty when the description names none and the site has no single one. */
  readonly segment: string;
  readonly peerId?: string;
  readonly addresses: readonly string[];
  readonly keys?: boolean;
  readonly issuer?: boolean;
  readonly enrolled?: boolean;
}

export interface BrokenReference {
  readonly path: readonly string[];
  readonly message: string;
}

/** What the parts of a description say wrongly about each other; pure. Empty when all is well. */
export function checkReferences(description: References): BrokenReference[] {
  return [
    ...checkSegments(description),
    ...Object.entries(description.nodes).flatMap(([name, node]) => checkNode(description, name, node)),
    ...checkMachines(description),
    ...checkUnique(description),
    ...checkMembership(description),
  ];
}

function checkSegments({ sites, segments }: References): BrokenReference[] {
  const broken: BrokenReference[] = [];
  for (const [name, segment] of Object.entries(segments)) {
    if (Object.hasOwn(sites, segment.site)) continue;
    broken.push({ path: ['segments', name, 'site'], message: unknown('site', segment.site, sites) });
  }
  for (const name of Object.keys(sites)) {
    if (Object.values(segments).some((segment) => segment.site === name)) continue;
    const owner = segments[name]?.site;
    const message = `has no segment, and segment '${name}' belongs to site '${owner}': give it one under segments`;
    broken.push({ path: ['sites', name], message });
  }
  return broken;
}

function checkNode({ sites, segments }: References, name: string, node: NodeReferences): BrokenReference[] {
  const at = (key: string) => ['nodes', name, key];
  if (!Object.hasOwn(sites, node.site)) return [{ path: at('site'), message: unknown('site', node.site, sites) }];
  const own = Object.keys(segments).filter((segment) => segments[segment]?.site === node.site);
  if (node.segment === '') {
    return [{ path: at('segment'), message: `is missing: site '${node.site}' has ${list(own)}, name one` }];
  }
  if (!own.includes(node.segment)) {
    const message = `'${node.segment}' is no segment of site '${node.site}', which has ${list(own)}`;
    return [{ path: at('segment'), message }];
  }
  if (node.peerId === undefined && node.addresses.length > 0) {
    return [{ path: at('peerId'), message: 'is missing: a node with addresses is dialled, and must prove who it is' }];
  }
  return node.addresses.flatMap((address) => {
    const claimed = multiaddr(address)
      .getComponents()
      .find((component) => component.name === 'p2p')?.value;
    if (claimed === undefined || claimed === node.peerId) return [];
    return [{ path: at('addresses'), message: `name peer ${claimed}, but the node's peerId is ${node.peerId}` }];
  });
}

function checkMachines({ segments, nodes, machines }: References): BrokenReference[] {
  return Object.entries(machines).flatMap(([name, machine]) => {
    const path = ['machines', name];
    if (Object.hasOwn(nodes, name)) return [{ path, message: 'has the name of a node: give it another' }];
    if (Object.hasOwn(segments, machine.segment)) return [];
    return [{ path: [...path, 'segment'], message: unknown('segment', machine.segment, segments) }];
  });
}

/** One identity, one node: a copied key or address would make two nodes answer as one. */
function checkUnique({ nodes }: References): BrokenReference[] {
  const owners = new Map<string, string>();
  const broken: BrokenReference[] = [];
  const claim = (value: string, name: string, key: string, what: string) => {
    const owner = owners.get(value);
    owners.set(value, owner ?? name);
    if (owner === undefined) return;
    const message = `${value} is listed twice, for '${owner}' and '${name}': every node has its own ${what}`;
    broken.push({ path: ['nodes', name, key], message });
  };
  for (const [name, node] of Object.entries(nodes)) {
    if (node.peerId !== undefined) claim(node.peerId, name, 'peerId', 'peer id');
    for (const address of node.addresses) claim(address.replace(/\/p2p\/[^/]+$/, ''), name, 'addresses', 'address');
  }
  return broken;
}

/** Certificates need somebody who signs them, and one alone: two who sign one state would fork it. */
function checkMembership({ trust, overlay = false, nodes }: References): BrokenReference[] {
  const all = Object.entries(nodes);
  const holders = all.filter(([, { keys }]) => keys === true).map(([name]) => name);
  const at = (name: string, key: string, message: string) => ({ path: ['nodes', name, key], message });
  const second = holders
    .slice(1)
    .map((name) => at(name, 'keys', `is true, and '${holders[0]}' holds the fleet's keys already: only one node may`));
  if (!overlay) {
    const certified = all.flatMap(([name, node]) =>
      (['issuer', 'enrolled'] as const).filter((key) => node[key] !== undefined).map((key) => [name, key] as const),
    );
    const advice = 'is for fleets whose members have certificates: set overlay: true at the top, or leave it out';
    return [...second, ...certified.map(([name, key]) => at(name, key, advice))];
  }
  const [holder] = holders;
  const none = {
    path: [],
    message: 'has overlay: true and no node with keys: true: name the one that admits the others',
  };
  const late = holders.filter((name) => nodes[name]?.enrolled === false);
  const lateIssuers = all.filter(([, { issuer, enrolled }]) => issuer === true && enrolled === false);
  return [
    ...second,
    ...(holder === undefined ? [none] : []),
    ...(trust === undefined
      ? []
      : [{ path: ['trust'], message: 'cannot stand beside overlay: true: the lab makes the root' }]),
    ...late.map((name) => at(name, 'enrolled', 'is false, and the node holds the fleet’s keys: it admits the others')),
    ...lateIssuers.map(([name]) =>
      at(name, 'issuer', 'is true, and the node is no member yet: give the key to another'),
    ),
  ];
}

function unknown(what: string, name: string, known: Readonly<Record<string, unknown>>): string {
  return `'${name}' is no ${what} of this fleet: known are ${list(Object.keys(known))}`;
}

function list(names: readonly string[]): string {
  if (names.length === 0) return 'none';
  const shown = names.slice(0, 10).join(', ');
  return names.length > 10 ? `${shown}, … (${names.length})` : shown;
}
