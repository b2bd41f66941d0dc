import { open, stat } from 'node:fs/promises';
import type { Lab } from '../lab/lab.ts';
import type { SerialLine } from '../machine/serial-console.ts';

/** One thing that happened while a machine booted. */
export interface Moment {
  /** Unix milliseconds. */
  readonly at: number;
  /** dhcp, tftp, script, kernel, initramfs, ticket, rootfs, up … */
  readonly stage: string;
  /** The node that served it; absent for what the machine did by itself. */
  readonly by?: string;
  readonly detail: string;
  /** Payload that was served. */
  readonly bytes?: number;
}

interface LogLine {
  readonly time: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

interface Facts {
  /** Where each node's log was when the machine was switched on, bytes. */
  readonly since: ReadonlyMap<string, number>;
  readonly mac: string;
  /** CID → what it is in the release. */
  readonly roles: ReadonlyMap<string, string>;
}

/** A log longer than this is of another problem than ours. */
const MAX_LOG_BYTES = 64 * 1024 * 1024;

/** The ends of the nodes' logs, to read on from. */
export async function logPositions(lab: Lab): Promise<Map<string, number>> {
  const sizes = Object.values(lab.nodes).map(async ({ name, log }) => {
    return [name, (await stat(log).catch(() => ({ size: 0 }))).size] as const;
  });
  return new Map(await Promise.all(sizes));
}

/** What the nodes' logs and the machine's own console say of one boot, in order of time. */
export async function readTimeline(lab: Lab, serial: readonly SerialLine[], facts: Facts): Promise<Moment[]> {
  const logs = Object.values(lab.nodes).map(async (node) => {
    const lines = await logLines(node.log, facts.since.get(node.name) ?? 0);
    return lines.flatMap((line) => nodeMoment(line, node.name, facts) ?? []);
  });
  const moments = [...(await Promise.all(logs)).flat(), ...serial.flatMap((line) => guestMoment(line, lab) ?? [])];
  return joinRanges(moments.sort((a, b) => a.at - b.at));
}

/** The nodes that gave the machine bytes of its release. */
export function servers(moments: readonly Moment[]): string[] {
  const served = moments.filter(({ stage }) => ['kernel', 'initramfs', 'rootfs'].includes(stage));
  return [...new Set(served.flatMap(({ by }) => by ?? []))].sort();
}

async function logLines(file: string, from: number): Promise<LogLine[]> {
  await using log = await open(file, 'r');
  const { size } = await log.stat();
  const bytes = Buffer.alloc(Math.min(Math.max(0, size - from), MAX_LOG_BYTES));
  await log.read(bytes, 0, bytes.length, from);
  return bytes
    .toString('utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as LogLine];
      } catch {
        return []; // The last line of an agent that was killed, or what Node itself printed.
      }
    });
}

/** What a node tells of each step of a machine's boot, in a few words. */
const BOOT_DETAILS: Readonly<Record<string, (line: LogLine) => string>> = {
  dhcp: ({ reply, address, kind, role }) =>
    `${reply} ${address ?? ''} to ${kind === 'plain' ? 'Linux' : kind}, as ${role}`,
  tftp: ({ file }) => `${file}`,
  script: ({ channel, version, neighbours }) => `${channel} ${version}, to be had from ${neighbours}`,
};

function nodeMoment(line: LogLine, by: string, { mac, roles }: Facts): Moment | undefined {
  const at = Date.parse(line.time);
  if (line.msg === 'boot progress' && line['mac'] === mac) {
    const stage = String(line['event']).replace('boot:', '');
    return { at, stage, by, detail: BOOT_DETAILS[stage]?.(line) ?? '' };
  }
  if (line.msg === 'artifact served' || line.msg === 'artifact reader has gone') {
    const stage = roles.get(String(line['cid']));
    if (stage === undefined) return undefined;
    const bytes = Number(line['bytes']);
    return { at, stage, by, bytes, detail: megabytes(bytes) };
  }
  return undefined;
}

/** The guest's own lines: `bootmesh: <event> key=value … t=<seconds>`. */
function guestMoment({ at, text }: SerialLine, lab: Lab): Moment | undefined {
  const marker = /bootmesh-demo up rootfs_sha256=([0-9a-f]{64})/.exec(text);
  if (marker) return { at, stage: 'up', detail: `it hashed its own rootfs: ${marker[1]}` };
  const [, event, rest = ''] =
    /^bootmesh: (init|net up|ticket ok|rootfs ok|neighbour \w+|refused|switch root)(?: (.*)|$)/.exec(text) ?? [];
  if (event === undefined) return undefined;
  const detail = rest
    .replace(/ t=[\d.]+$/, '')
    .replaceAll(/(rootfs|sha256)=(\w{12})\w+/g, '$1=$2…')
    .replaceAll(/https?:\/\/(\[[^\]]+\]|[\d.]+):\d+/g, (url) => nodeAt(url, lab));
  return { at, stage: 'guest', detail: `${event} ${detail}`.trim() };
}

function nodeAt(url: string, lab: Lab): string {
  return Object.values(lab.nodes).find((node) => node.gateways.includes(url))?.name ?? url;
}

/** A rootfs comes in many ranges: those of one node become one moment, at the last of them. */
function joinRanges(moments: readonly Moment[]): Moment[] {
  const ranges = Map.groupBy(moments, ({ stage, by }) => (stage === 'rootfs' && by !== undefined ? by : undefined));
  const joined = [...ranges].flatMap(([by, group]) => {
    const last = group.at(-1);
    if (by === undefined || last === undefined) return group;
    const bytes = group.reduce((sum, each) => sum + (each.bytes ?? 0), 0);
    return [{ ...last, bytes, detail: `${megabytes(bytes)} in ${group.length} ranges` }];
  });
  return joined.sort((a, b) => a.at - b.at);
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
