import { isIP, isIPv6 } from 'node:net';
import { fillCommandLine } from './command-line.ts';
import { type BootRelease, releaseArtifacts } from './release.ts';

/** A node that a booting machine can fetch from. */
export interface ScriptNeighbour {
  /** IPv4 or IPv6 address on the client's segment. */
  readonly address: string;
  /** TCP port of its gateway. */
  readonly gatewayPort: number;
}

export interface ScriptRequest {
  readonly release: BootRelease;
  /** Nodes that hold the release, best first; at least one. */
  readonly neighbours: readonly ScriptNeighbour[];
  /** The client's hardware address, `52:54:00:12:34:56`. */
  readonly mac: string;
}

/** Something that would not be safe to put into a script. */
export class ScriptError extends Error {
  override readonly name = 'ScriptError';
  readonly code = 'BOOT_SCRIPT';
}

/** Enough that a script never depends on one or two; more would only make it long (it grows with the square). */
export const MAX_SCRIPT_NEIGHBOURS = 6;
/** iPXE gives a download up that makes no progress for so long (core/monojob.c counts from the last progress). */
const STALL_MS = 8000;
/** How often the whole list is tried before the machine resets, which asks the segment afresh. */
const ROUNDS = 3;

/** `http://a.b.c.d:8080`, `http://[fd00::1]:8080`. @throws ScriptError when it is no address and port */
export function baseUrl({ address, gatewayPort }: ScriptNeighbour): string {
  if (isIP(address) === 0 || address.includes('%')) throw new ScriptError(`'${address}' is no address for a URL`);
  if (!Number.isInteger(gatewayPort) || gatewayPort < 1 || gatewayPort > 65_535) {
    throw new ScriptError(`'${gatewayPort}' is no TCP port`);
  }
  return `http://${isIPv6(address) ? `[${address}]` : address}:${gatewayPort}`;
}

/**
 * The iPXE script for one client: kernel, then initramfs, each from the first neighbour that delivers it, over the
 * whole list up to three times; then a reset, never a prompt. Where the kernel came from, the initramfs is asked for
 * first. Its own lines on the console start with `bootmesh: `.
 * @throws ScriptError or CommandLineError when a value could break out of the script.
 */
export function bootScript({ release, neighbours, mac }: ScriptRequest): string {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac)) throw new ScriptError(`'${mac}' is no hardware address`);
  if (!/^[a-z0-9][a-z0-9._-]{0,62}$/i.test(release.channel)) throw new ScriptError('the channel has no usable name');
  if (!Number.isSafeInteger(release.version)) throw new ScriptError('the release has no usable version');
  for (const { cid } of releaseArtifacts(release).values()) {
    if (!/^[a-z0-9]{1,128}$/i.test(cid)) throw new ScriptError(`'${cid}' is no CID`);
  }
  const urls = neighbours.slice(0, MAX_SCRIPT_NEIGHBOURS).map(baseUrl);
  if (urls.length === 0) throw new ScriptError('no neighbour holds the release');
  const lines = ['#!ipxe', `echo bootmesh: script channel=${release.channel} version=${release.version}`, ...NETWORK];
  for (const [index, url] of urls.entries()) lines.push(...kernelLines(url, index, urls, { release, mac }));
  lines.push('goto again');
  for (const index of urls.keys()) lines.push(...initramfsLines(index, urls, release));
  return `${[...lines, ...CLOSE].join('\n')}\n`;
}

/** An address first: a script that came over TFTP or from a disk runs before DHCP. */
const NETWORK = [
  'set round:int32 1',
  ':network',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: iPXE expands it.
  'isset ${ip} && goto fetch ||',
  'dhcp && goto fetch ||',
  'echo bootmesh: no address, trying again',
  'goto again',
  ':fetch',
];

const CLOSE = [
  ':fetched',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: iPXE expands it.
  'echo bootmesh: initramfs from=${initramfs}',
  'boot ||',
  'echo bootmesh: the kernel did not start',
  ':again',
  'imgfree ||',
  `iseq \${round} ${ROUNDS} && goto exhausted ||`,
  'inc round ||',
  'sleep 2 ||',
  'goto network',
  ':exhausted',
  'echo bootmesh: no neighbour delivered, resetting',
  'sleep 3 ||',
  'reboot',
];

function kernelLines(
  url: string,
  index: number,
  urls: readonly string[],
  { release, mac }: Pick<ScriptRequest, 'release' | 'mac'>,
): string[] {
  const line = fillCommandLine(release.commandLine, {
    mac,
    neighbour: url,
    neighbours: rotated(urls, index),
    channel: release.channel,
    version: release.version,
    artifacts: releaseArtifacts(release),
  });
  const kernel = `kernel --name kernel --timeout ${STALL_MS} ${url}/artifact/${release.kernel.cid}`;
  return [`${kernel} ${line} && goto initramfs${index} ||`, `echo bootmesh: kernel failed from=${url}`];
}

function initramfsLines(index: number, urls: readonly string[], release: BootRelease): string[] {
  const lines = [`:initramfs${index}`, `echo bootmesh: kernel from=${urls[index]}`];
  for (const url of rotated(urls, index)) {
    const fetch = `initrd --name initramfs --timeout ${STALL_MS} ${url}/artifact/${release.initramfs.cid}`;
    lines.push(`set initramfs ${url}`, `${fetch} && goto fetched ||`, `echo bootmesh: initramfs failed from=${url}`);
  }
  return [...lines, 'goto again'];
}

function rotated<T>(items: readonly T[], by: number): T[] {
  return [...items.slice(by), ...items.slice(0, by)];
}
