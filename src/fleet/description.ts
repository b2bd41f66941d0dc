import { open } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument, stringify } from 'yaml';
import type { z } from 'zod';
import { formatRate, formatSize } from './quantity.ts';
import { checkReferences } from './references.ts';
import { descriptionSchema } from './schema.ts';

export type Family = 'ipv4' | 'ipv6';
export type Role = 'origin' | 'seed' | 'gateway';
/** What a router that hides its site does to ports of UDP and TCP: keeps them while they are free, or not. */
export type Nat = 'kept' | 'random';
export type BootMode = 'off' | 'auto' | 'server' | 'proxy';

export interface Site {
  /** Rates of the site's uplink in bits per second, seen from the site; unlimited when absent. */
  readonly uplink?: { readonly up: number; readonly down: number };
  /** Rate of every cable of the site's segments, both ways, in bits per second; unlimited when absent. */
  readonly lan?: number;
  /** In the lab: the site's router hides it behind its own IPv4 address on the WAN. @default it hides nothing */
  readonly nat?: Nat;
}

/** One L2 broadcast domain. */
export interface Segment {
  readonly site: string;
  /** Address families in use on it. @default both */
  readonly families: readonly Family[];
  /**
   * Nobody on it listens or meddles: its nodes may send each other chunks over plain TCP. What arrives is verified in
   * any case; others on the segment could see it, and keep it from arriving. @default false
   */
  readonly trusted?: boolean;
}

export interface FleetNode {
  readonly site: string;
  readonly segment: string;
  /** Rates of the node's own cable in bits per second, seen from the node. @default its site's `lan` */
  readonly link?: { readonly up: number; readonly down: number };
  /** Absent until the node has an identity; the lab makes one. */
  readonly peerId?: string;
  /** Multiaddrs that others dial, without or with the closing `/p2p/<peerId>`. */
  readonly addresses: readonly string[];
  readonly roles: readonly Role[];
  /** In the lab: it holds the fleet's own keys, publishes with them and admits anywhere. @default false */
  readonly keys?: boolean;
  /** In the lab of a fleet with an overlay: it holds the key of an issuer that admits to its site. @default false */
  readonly issuer?: boolean;
  /** In the lab of a fleet with an overlay: false for a machine that joins by token while the lab is up. @default true */
  readonly enrolled?: boolean;
  /** How the node answers bare machines; the agent's own configuration decides when absent. */
  readonly boot?: BootMode;
}

/** A machine without a disk and without an agent, to be booted by the nodes of its segment. */
export interface Machine {
  readonly segment: string;
  /** Bytes. @default 1 GiB */
  readonly memory: number;
  /** @default 'virtio' */
  readonly nic: 'virtio' | 'e1000';
}

/** A fleet as data: who belongs to it, where they are, and over which links. All references in it hold. */
export interface FleetDescription {
  readonly fleet: string;
  /** @default ['production'] */
  readonly channels: readonly string[];
  /** `root`: absolute path of the TUF root.json that the fleet's releases are checked against. */
  readonly trust?: { readonly root: string };
  /** Its nodes are members by certificate, in a WireGuard overlay; the lab makes keys and certificates. @default false */
  readonly overlay?: boolean;
  readonly sites: Readonly<Record<string, Site>>;
  readonly segments: Readonly<Record<string, Segment>>;
  readonly nodes: Readonly<Record<string, FleetNode>>;
  readonly machines: Readonly<Record<string, Machine>>;
}

export interface Problem {
  /** Where in the document, e.g. `nodes.edge-1.site`; empty for the document as a whole. */
  readonly path: string;
  /** Line in the file, counted from 1, where one can be told. */
  readonly line?: number;
  /** What is wrong and what to do. */
  readonly message: string;
}

/** The file cannot be read, is no YAML, or describes no fleet. Nothing of it may be used. */
export class DescriptionInvalid extends Error {
  readonly code = 'DESCRIPTION_INVALID';
  readonly file: string;
  readonly problems: readonly Problem[];

  constructor(file: string, problems: readonly Problem[], options?: ErrorOptions) {
    const shown = problems.slice(0, MAX_SHOWN).map((problem) => {
      const where = problem.line === undefined ? file : `${file}:${problem.line}`;
      return problem.path ? `${where}: ${problem.path} ${problem.message}` : `${where}: ${problem.message}`;
    });
    if (problems.length > MAX_SHOWN) shown.push(`… and ${problems.length - MAX_SHOWN} more`);
    super(shown.join('\n'), options);
    this.name = 'DescriptionInvalid';
    this.file = file;
    this.problems = problems;
  }
}

/** A description of some 5,000 nodes; more is no description. */
export const MAX_DESCRIPTION_BYTES = 1024 * 1024;
const MAX_SHOWN = 20;
const DEFAULT_MEMORY = 1024 ** 3;

/** Reads and checks a description. Rejects with `DescriptionInvalid`, which lists every problem found. */
export async function readDescription(file: string): Promise<FleetDescription> {
  return parseDescription(await readBounded(file), file);
}

/** Parses a description's text; `file` names it in messages, and relative paths in it start at the file's folder. */
export function parseDescription(text: string, file: string): FleetDescription {
  const lines = new LineCounter();
  const { document, value } = parseYaml(text, file, lines);
  const lineOf = (path: readonly PropertyKey[]) => lineAt(document, lines, path);
  const checked = descriptionSchema.safeParse(value, { reportInput: true });
  if (!checked.success)
    throw new DescriptionInvalid(
      file,
      checked.error.issues.flatMap((issue) => explain(issue, lineOf)),
    );
  const description = complete(checked.data, dirname(resolve(file)));
  const broken = checkReferences(description);
  if (broken.length === 0) return description;
  throw new DescriptionInvalid(
    file,
    broken.map(({ path, message }) => problem(path, message, lineOf)),
  );
}

/** The YAML text that `parseDescription` reads back as an equal description. */
export function formatDescription(description: FleetDescription): string {
  const each = <T, U>(record: Readonly<Record<string, T>>, form: (value: T) => U) =>
    Object.fromEntries(Object.entries(record).map(([name, value]) => [name, form(value)]));
  return stringify(
    {
      ...description,
      sites: each(description.sites, ({ uplink, lan, ...site }) => ({
        ...site,
        ...(uplink && { uplink: formatRates(uplink) }),
        ...(lan !== undefined && { lan: formatRate(lan) }),
      })),
      nodes: each(description.nodes, ({ link, ...node }) => ({ ...node, ...(link && { link: formatRates(link) }) })),
      machines: each(description.machines, (machine) => ({ ...machine, memory: formatSize(machine.memory) })),
    },
    { aliasDuplicateObjects: false },
  );
}

function formatRates({ up, down }: { readonly up: number; readonly down: number }) {
  return { up: formatRate(up), down: formatRate(down) };
}

async function readBounded(file: string): Promise<string> {
  try {
    await using handle = await open(file);
    const buffer = Buffer.alloc(MAX_DESCRIPTION_BYTES + 1);
    let length = 0;
    for (let got = -1; got !== 0 && length < buffer.length; length += got) {
      ({ bytesRead: got } = await handle.read(buffer, length, buffer.length - length));
    }
    if (length <= MAX_DESCRIPTION_BYTES) return buffer.toString('utf8', 0, length);
  } catch (error) {
    const message = `cannot be read (${(error as Error).message}): check the path and its permissions`;
    throw new DescriptionInvalid(file, [{ path: '', message }], { cause: error });
  }
  const message = `is larger than ${formatSize(MAX_DESCRIPTION_BYTES)}: no fleet description is`;
  throw new DescriptionInvalid(file, [{ path: '', message }]);
}

function parseYaml(text: string, file: string, lines: LineCounter): { document: Document; value: unknown } {
  try {
    const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, logLevel: 'silent' });
    if (document.errors.length === 0) return { document, value: document.toJS({ maxAliasCount: 100 }) };
    const problems = document.errors.slice(0, MAX_SHOWN).map((error) => ({
      path: '',
      line: lines.linePos(error.pos[0]).line,
      message: `is no YAML: ${error.message}`,
    }));
    throw new DescriptionInvalid(file, problems);
  } catch (error) {
    if (error instanceof DescriptionInvalid) throw error;
    // The parser gives up on aliases that expand without end and on nesting deeper than its stack.
    const message = `is no usable YAML: ${(error as Error).message}`;
    throw new DescriptionInvalid(file, [{ path: '', message }], { cause: error });
  }
}

function complete(given: z.output<typeof descriptionSchema>, folder: string): FleetDescription {
  const segments: Record<string, Segment> = {};
  for (const [name, segment] of Object.entries(given.segments ?? {})) {
    const { site, families = ['ipv4', 'ipv6'], trusted } = segment;
    segments[name] = { site, families, ...(trusted !== undefined && { trusted }) };
  }
  const withSegments = new Set(Object.values(segments).map((segment) => segment.site));
  for (const name of Object.keys(given.sites)) {
    // A taken name is reported as a broken reference: the site then has no segment of its own.
    if (withSegments.has(name) || Object.hasOwn(segments, name)) continue;
    segments[name] = { site: name, families: ['ipv4', 'ipv6'] };
  }
  const only = (site: string) => {
    const own = Object.keys(segments).filter((name) => segments[name]?.site === site);
    return own.length === 1 ? own[0] : undefined;
  };
  const nodes = Object.entries(given.nodes).map(([name, { roles = [], addresses = [], ...node }]) => {
    return [name, { ...node, segment: node.segment ?? only(node.site) ?? '', roles, addresses }] as const;
  });
  const machines = Object.entries(given.machines ?? {}).map(([name, { memory, nic, segment }]) => {
    return [name, { segment, memory: memory ?? DEFAULT_MEMORY, nic: nic ?? 'virtio' }] as const;
  });
  return {
    fleet: given.fleet,
    channels: given.channels ?? ['production'],
    ...(given.trust && { trust: { root: resolve(folder, given.trust.root) } }),
    ...(given.overlay !== undefined && { overlay: given.overlay }),
    sites: Object.fromEntries(Object.entries(given.sites).map(([name, site]) => [name, dense(site ?? {})])),
    segments,
    nodes: Object.fromEntries(nodes.map(([name, node]) => [name, dense(node)])),
    machines: Object.fromEntries(machines),
  } as FleetDescription;
}

/** Without the keys whose value is undefined, which `exactOptionalPropertyTypes` forbids. */
function dense<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined)) as T;
}

type LineOf = (path: readonly PropertyKey[]) => number | undefined;

function explain(issue: z.core.$ZodIssue, lineOf: LineOf): Problem[] {
  // The name itself is wrong: its own reasons say more than "invalid key".
  if (issue.code === 'invalid_key') return issue.issues.map((inner) => problem(issue.path, inner.message, lineOf));
  const missing = issue.code === 'invalid_type' && issue.input === undefined;
  const message = missing
    ? `is missing: ${issue.expected} expected`
    : issue.message.replace(/^Invalid /, 'has invalid ');
  return [problem(issue.path, message, lineOf)];
}

function problem(path: readonly PropertyKey[], message: string, lineOf: LineOf): Problem {
  const line = lineOf(path);
  return { path: path.map(String).join('.'), ...(line !== undefined && { line }), message };
}

/** Line of the key of the deepest part of `path` that the document has. */
function lineAt(document: Document, lines: LineCounter, path: readonly PropertyKey[]): number | undefined {
  for (let depth = path.length; depth > 0; depth--) {
    const [parent, key] = [document.getIn(path.slice(0, depth - 1), true), String(path[depth - 1])];
    const pair = isMap(parent) && parent.items.find((item) => isScalar(item.key) && String(item.key.value) === key);
    const found = pair ? pair.key : document.getIn(path.slice(0, depth), true);
    if (isNode(found) && found.range) return lines.linePos(found.range[0]).line;
  }
  return undefined;
}
