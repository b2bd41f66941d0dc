import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import { z } from 'zod';
import { parseRate, parseSize } from './quantity.ts';

/**
 * The YAML schema of a fleet description, documented for users in peers/README.md. It checks each value by itself;
 * what the parts say about each other (a node's site exists, no two nodes share a peer id) is checked by
 * `description.ts`.
 */

const NAME = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/;
const name = z.string().regex(NAME, 'is no name: 1 to 32 of a-z, 0-9 and inner dashes');

const rate = z
  .string({ error: 'is no rate: write a number with a unit, such as 20Mbit or 1Gbit' })
  .transform((text, context) => {
    const bits = parseRate(text);
    if (bits !== undefined && bits >= MIN_RATE && bits <= MAX_RATE) return bits;
    context.addIssue(`'${text}' is no rate: write a number with a unit from 8kbit to 100Gbit, such as 20Mbit`);
    return z.NEVER;
  });
const MIN_RATE = 8_000;
const MAX_RATE = 100e9;

const memory = z
  .string({ error: 'is no size: write a number with a unit, such as 1GiB or 768MiB' })
  .transform((text, context) => {
    const bytes = parseSize(text);
    if (bytes !== undefined && bytes >= MIN_MEMORY && bytes <= MAX_MEMORY) return bytes;
    context.addIssue(`'${text}' is no size: write a number with a unit from 64MiB to 1TiB, such as 1GiB`);
    return z.NEVER;
  });
const MIN_MEMORY = 64 * 1024 ** 2;
const MAX_MEMORY = 1024 ** 4;

const peerId = z.string().transform((text, context) => {
  try {
    const id = peerIdFromString(text);
    if (id.type === 'Ed25519') return id.toString();
  } catch {
    // Said below, in our words.
  }
  context.addIssue(`'${clip(text)}' is no ed25519 peer id (12D3KooW…): copy it from \`bootmesh status\` on that node`);
  return z.NEVER;
});

const address = z.string().transform((text, context) => {
  const problem = text.length > 512 ? 'longer than 512 characters' : addressProblem(text);
  if (problem === undefined) return text;
  context.addIssue(`'${clip(text)}' is no address (${problem}): write one such as /ip4/192.0.2.7/tcp/4001`);
  return z.NEVER;
});

/** What is wrong with a multiaddr that others are to dial, or undefined. */
function addressProblem(text: string): string | undefined {
  try {
    const [host, transport] = multiaddr(text).getComponents();
    if (!host || !['ip4', 'ip6', 'dns4', 'dns6', 'dns'].includes(host.name))
      return 'no IP address or DNS name in front';
    if (transport?.name !== 'tcp') return 'not TCP';
    return transport.value === '0' ? 'port 0 cannot be dialled' : undefined;
  } catch (error) {
    return error instanceof Error ? error.message : 'not a multiaddr';
  }
}

const uplink = known({ up: rate, down: rate });
const site = known({ uplink: uplink.optional(), lan: rate.optional(), nat: z.enum(['kept', 'random']).optional() });
const segment = known({
  site: name,
  families: z
    .array(z.enum(['ipv4', 'ipv6']))
    .min(1)
    .optional(),
  trusted: z.boolean().optional(),
});
const node = known({
  site: name,
  segment: name.optional(),
  link: uplink.optional(),
  peerId: peerId.optional(),
  addresses: z.array(address).max(16).optional(),
  roles: z.array(z.enum(['origin', 'seed', 'gateway'])).optional(),
  keys: z.boolean().optional(),
  issuer: z.boolean().optional(),
  enrolled: z.boolean().optional(),
  boot: z.enum(['off', 'auto', 'server', 'proxy']).optional(),
});
const machine = known({
  segment: name,
  memory: memory.optional(),
  nic: z.enum(['virtio', 'e1000']).optional(),
});

export const descriptionSchema = known({
  fleet: name,
  channels: z.array(name).min(1, 'is empty: name at least one channel').optional(),
  trust: known({ root: z.string().min(1).max(4096) }).optional(),
  overlay: z.boolean().optional(),
  sites: z.record(name, site.nullable()),
  segments: z.record(name, segment).optional(),
  nodes: z.record(name, node),
  machines: z.record(name, machine).optional(),
});

/** A strict object whose complaint about an unknown key names the known ones. */
function known<T extends z.ZodRawShape>(shape: T) {
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? `has unknown ${issue.keys.map((key) => `'${clip(key)}'`).join(', ')}: known are ${Object.keys(shape).join(', ')}`
        : undefined,
  });
}

function clip(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
