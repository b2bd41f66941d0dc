import { createReadStream } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { isDeepStrictEqual } from 'node:util';
import { generateConfigString, parseConfigString } from 'wireguard-tools';
import { parseCidr } from './cidr.ts';
import { fields, type Kind, refused } from './field.ts';
import { SecretKey, type WireGuardNetwork, type WireGuardPeer } from './network.ts';

/** No wg-quick configuration, or one that says more than may be imported. The message never holds a key. */
export class WgQuickInvalid extends Error {
  readonly code = 'WG_QUICK_INVALID';
  readonly file: string;
  /** Counted from 1. */
  readonly line: number;

  constructor(file: string, line: number, problem: string) {
    super(`${file}:${line}: ${problem}`);
    this.name = 'WgQuickInvalid';
    this.file = file;
    this.line = line;
  }
}

/** Some 5,000 peers. */
export const MAX_WG_QUICK_BYTES = 1024 * 1024;

interface Section {
  readonly kind: Kind;
  readonly line: number;
  /** Canonical values by the field's name. */
  readonly values: Map<string, string[]>;
}

/** Reads `file`. Rejects with `WgQuickInvalid`, or the system's error when it cannot be read. */
export async function readNetwork(file: string, { signal }: { signal: AbortSignal }): Promise<WireGuardNetwork> {
  const bytes = await buffer(createReadStream(file, { end: MAX_WG_QUICK_BYTES, signal }));
  return parseNetwork(bytes.toString(), file);
}

/** Reads a configuration's text; `file` names it in messages. @throws {WgQuickInvalid} */
export function parseNetwork(text: string, file: string): WireGuardNetwork {
  const sections = readSections(text, file);
  const [own, second] = sections.filter((section) => section.kind === 'Interface');
  if (own === undefined) throw new WgQuickInvalid(file, 1, 'has no [Interface]: is it a wg-quick configuration?');
  if (second !== undefined) throw new WgQuickInvalid(file, second.line, 'is a second [Interface]: keep one');
  const others = sections.filter((section) => section.kind === 'Peer');
  const parsed = parseConfigString([own, ...others].map(plain).join('\n'));
  const { address, listenPort, mtu, privateKey } = parsed.wgInterface;
  const secret = new SecretKey(agreed(own, 'PrivateKey', privateKey, file).join());
  const network: WireGuardNetwork = {
    interface: {
      addresses: agreed(own, 'Address', address, file),
      ...positive('listenPort', agreed(own, 'ListenPort', listenPort, file)),
      ...positive('mtu', agreed(own, 'MTU', mtu, file)),
      publicKey: secret.publicKey(),
      privateKey: secret,
    },
    peers: others.map((section, at): WireGuardPeer => {
      const { publicKey, preSharedKey, endpoint: bare, allowedIps } = parsed.peers?.[at] ?? {};
      const [endpoint] = agreed(section, 'Endpoint', bare?.replace(/^(.*:.*):(\d+)$/, '[$1]:$2'), file);
      const [presharedKey] = agreed(section, 'PresharedKey', preSharedKey, file);
      return {
        publicKey: agreed(section, 'PublicKey', publicKey, file).join(),
        ...(presharedKey && { presharedKey: new SecretKey(presharedKey) }),
        ...(endpoint && { endpoint }),
        allowedIps: agreed(section, 'AllowedIPs', allowedIps, file),
        // The library looks for it in [Interface], and so never finds it.
        ...positive('persistentKeepalive', section.values.get('PersistentKeepalive') ?? []),
      };
    }),
  };
  checkApart(network, (peer) => others[peer]?.line ?? own.line, file);
  return network;
}

/** The text that `parseNetwork` reads back as an equal network. @throws {WgQuickInvalid} for a network that has none */
export function formatNetwork(network: WireGuardNetwork): string {
  const { addresses, listenPort, mtu, privateKey } = network.interface;
  const text = generateConfigString({
    wgInterface: {
      address: [...addresses],
      privateKey: privateKey.reveal().toString('base64'),
      ...(listenPort && { listenPort }),
      ...(mtu && { mtu }),
    },
    peers: network.peers.map(({ presharedKey, allowedIps, ...peer }) => ({
      ...peer,
      allowedIps: [...allowedIps],
      ...(presharedKey && { preSharedKey: presharedKey.reveal().toString('base64') }),
    })),
  });
  // The library writes what it is given, a line break and a PostUp in an endpoint too.
  if (isDeepStrictEqual(parseNetwork(text, 'export'), network)) return `${text}\n`;
  throw new WgQuickInvalid('export', 1, 'reads back as another network: give every field in its canonical spelling');
}

/** As wg-quick splits it: names in any case, `#` to the end of the line is a comment. */
function readSections(text: string, file: string): Section[] {
  if (Buffer.byteLength(text) > MAX_WG_QUICK_BYTES) {
    throw new WgQuickInvalid(file, 1, 'is larger than 1 MiB: no WireGuard configuration is');
  }
  const sections: Section[] = [];
  for (const [at, raw] of text.split(/\r?\n/).entries()) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    if (/[\0-\x08\x0b-\x1f\x7f]/.test(raw))
      throw new WgQuickInvalid(file, at + 1, 'holds a control character: remove it');
    const line = (raw.split('#')[0] ?? '').trim();
    if (/^\[(interface|peer)\]$/i.test(line)) {
      sections.push({ kind: /^\[i/i.test(line) ? 'Interface' : 'Peer', line: at + 1, values: new Map() });
    } else if (line !== '') readField(line, sections.at(-1), at + 1, file);
  }
  for (const { kind, line, values } of sections) {
    const missing = Object.keys(fields[kind]).find(
      (name) => fields[kind][name]?.count !== 'optional' && !values.has(name),
    );
    if (missing) throw new WgQuickInvalid(file, line, `[${kind}] has no ${missing}: add the line`);
  }
  return sections;
}

function readField(text: string, section: Section | undefined, line: number, file: string): void {
  const [, word = '', value] = /^([a-z]{1,24})\s*=(.*)$/i.exec(text) ?? [];
  const fail = (problem: string) => new WgQuickInvalid(file, line, problem);
  if (value === undefined || section === undefined) throw fail('is no `Name = value` of an [Interface] or a [Peer]');
  const known = Object.entries(fields[section.kind]);
  const [name, field] = known.find(([each]) => each.toLowerCase() === word.toLowerCase()) ?? [];
  if (name === undefined || field === undefined) {
    const names = known.map(([each]) => each).join(', ');
    throw fail(`${word} ${refused[word.toLowerCase()] ?? `is no field of [${section.kind}]: known are ${names}`}`);
  }
  const before = section.values.get(name) ?? [];
  if (before.length > 0 && field.count !== 'list') throw fail(`${name} is there twice: keep one`);
  for (const item of field.count === 'list' ? value.split(',') : [value]) {
    const canonical = field.read(item.trim());
    if (canonical === undefined) throw fail(`${name} takes ${field.takes}`);
    before.push(canonical);
  }
  section.values.set(name, before);
}

/** The section as wireguard-tools reads it right: one line per field, no comment, and no `[`, at which it stops. */
function plain({ kind, values }: Section): string {
  const names = Object.keys(fields[kind]).filter((name) => values.has(name));
  const lines = names.map((name) => `${name} = ${values.get(name)?.join(',').replace(/[[\]]/g, '')}`);
  return [`[${kind}]`, ...lines].join('\n');
}

/** What the library made of a field, if that is what we read; nothing for a field that is not in the text. */
function agreed(section: Section, name: string, read: string[] | string | number | undefined, file: string): string[] {
  const ours = section.values.get(name);
  if (ours === undefined) return [];
  const theirs = [read ?? []].flat().map(String);
  if (isDeepStrictEqual(theirs, ours)) return theirs;
  throw new WgQuickInvalid(
    file,
    section.line,
    `${name} of this section cannot be read for certain: choose another value`,
  );
}

function positive<N extends string>(name: N, [value]: readonly string[]): Partial<Record<N, number>> {
  return Number(value) > 0 ? ({ [name]: Number(value) } as Record<N, number>) : {};
}

/** WireGuard gives an address to the peer that named it last, without a word. */
function checkApart(network: WireGuardNetwork, lineOf: (peer: number) => number, file: string): void {
  const keys = new Set([network.interface.publicKey]);
  for (const [at, { publicKey }] of network.peers.entries()) {
    if (keys.has(publicKey)) {
      throw new WgQuickInvalid(file, lineOf(at), 'has the PublicKey of another [Peer] or of this machine: keep one');
    }
    keys.add(publicKey);
  }
  const blocks = network.peers.flatMap(({ allowedIps }, peer) =>
    allowedIps.flatMap((text) => parseCidr(text) ?? []).map((block) => ({ ...block, peer })),
  );
  const order = (a: bigint, b: bigint) => Number(a > b) - Number(a < b);
  blocks.sort((a, b) => a.bits - b.bits || order(a.first, b.first) || order(b.last, a.last));
  let outer = blocks[0];
  for (const block of blocks) {
    // Blocks are apart or one inside the other, and what holds others comes before them.
    if (outer === undefined || outer.bits !== block.bits || outer.last < block.first) outer = block;
    if (outer.peer === block.peer) continue;
    const both = `${block.block} overlaps with ${outer.block} of the [Peer] in line ${lineOf(outer.peer)}`;
    throw new WgQuickInvalid(file, lineOf(block.peer), `${both}: give every address to one peer`);
  }
}
