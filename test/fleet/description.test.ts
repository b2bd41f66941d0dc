import assert from 'node:assert/strict';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { stringify } from 'yaml';
import {
  DescriptionInvalid,
  formatDescription,
  MAX_DESCRIPTION_BYTES,
  parseDescription,
  readDescription,
} from '../../src/fleet/description.ts';

const ALICE = '12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8';
const BOB = '12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo';

test('the descriptions that ship are good, and survive being written and read again', async () => {
  for (const name of ['demo', 'edge-site', 'two-sites']) {
    const file = new URL(`../../peers/${name}.yaml`, import.meta.url).pathname;
    const description = await readDescription(file);
    assert.equal(description.fleet, name);
    assert.deepEqual(parseDescription(formatDescription(description), file), description);
  }
});

test('defaults are filled in, units become numbers, and paths start at the file', () => {
  const description = parseDescription(
    `fleet: small
trust: { root: keys/root.json }
sites:
  here: { uplink: { up: 1.5Mbit, down: 20Mbit/s }, lan: 1Gbit }
nodes:
  a: { site: here, link: { up: 10Mbit, down: 1Gbit }, peerId: ${ALICE}, addresses: [/ip4/192.0.2.1/tcp/7077] }
machines:
  m: { segment: here, memory: 768MiB }
`,
    '/srv/fleet.yaml',
  );
  assert.deepEqual(description, {
    fleet: 'small',
    channels: ['production'],
    trust: { root: '/srv/keys/root.json' },
    sites: { here: { uplink: { up: 1_500_000, down: 20_000_000 }, lan: 1_000_000_000 } },
    segments: { here: { site: 'here', families: ['ipv4', 'ipv6'] } },
    nodes: {
      a: {
        ...{ site: 'here', segment: 'here', link: { up: 10_000_000, down: 1_000_000_000 } },
        ...{ peerId: ALICE, addresses: ['/ip4/192.0.2.1/tcp/7077'], roles: [] },
      },
    },
    machines: { m: { segment: 'here', memory: 768 * 1024 ** 2, nic: 'virtio' } },
  });
});

/** Each fault in one place of an otherwise good description, and what must be said about it, and where. */
const FAULTS: readonly [fault: string, text: string, path: string, message: RegExp][] = [
  ['not a mapping', '[1]', '', /expected object/],
  ['YAML with a repeated key', 'fleet: a\nfleet: b', '', /is no YAML: Map keys must be unique/],
  ['aliases without end', bomb(), '', /is no usable YAML: Excessive alias count/],
  ['a missing part', 'fleet: a\nsites: {}', 'nodes', /is missing: record expected/],
  ['an unknown key', 'fleet: a\nsites: {}\nnodes: {}\nnods: {}', '', /unknown 'nods': known are fleet, /],
  ['a bad name', good({ fleet: 'Edge Site' }), 'fleet', /is no name: 1 to 32 of a-z/],
  ['a bad node name', good({ nodes: { a_b: { site: 's' } } }), 'nodes.a_b', /is no name/],
  ['a rate without unit', good({ sites: { s: { lan: 5 } } }), 'sites.s.lan', /is no rate: .* such as 20Mbit/],
  ['a rate out of range', good({ sites: { s: { lan: '1bit' } } }), 'sites.s.lan', /'1bit' is no rate: .* from 8kbit/],
  ['half an uplink', good({ sites: { s: { uplink: { up: '1Mbit' } } } }), 'sites.s.uplink.down', /is missing/],
  [
    'too little memory',
    good({ machines: { m: { segment: 's', memory: '1B' } } }),
    'machines.m.memory',
    /64MiB to 1TiB/,
  ],
  ['an unknown role', node({ roles: ['king'] }), 'nodes.a.roles.0', /"origin"\|"seed"/],
  ['no peer id', node({ peerId: 'me' }), 'nodes.a.peerId', /'me' is no ed25519 peer id .*bootmesh status/],
  ['an RSA peer id', node({ peerId: 'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N' }), 'nodes.a.peerId', /ed25519/],
  ['no multiaddr', node({ addresses: ['192.0.2.1:7077'] }), 'nodes.a.addresses.0', /must start with "\/"/],
  ['a bad IP', node({ addresses: ['/ip4/1.2.3.400/tcp/1'] }), 'nodes.a.addresses.0', /is no address \(Invalid IPv4/],
  ['UDP', node({ addresses: ['/ip4/192.0.2.1/udp/1'] }), 'nodes.a.addresses.0', /not TCP/],
  ['port 0', node({ addresses: ['/ip4/192.0.2.1/tcp/0'] }), 'nodes.a.addresses.0', /port 0 cannot be dialled/],
  [
    'no such site',
    node({ site: 'constructor' }),
    'nodes.a.site',
    /'constructor' is no site of this fleet: known are s/,
  ],
  ['no such segment', node({ segment: 'x' }), 'nodes.a.segment', /'x' is no segment of site 's', which has s/],
  ['an address of nobody', node({ addresses: ['/ip4/192.0.2.1/tcp/1'] }), 'nodes.a.peerId', /is missing: .* dialled/],
  [
    'an address of somebody else',
    node({ peerId: ALICE, addresses: [`/ip4/192.0.2.1/tcp/1/p2p/${BOB}`] }),
    'nodes.a.addresses',
    /name peer 12D3KooWQY\w+, but the node's peerId is 12D3KooWKn/,
  ],
  [
    'one peer id for two nodes',
    good({ nodes: { a: { site: 's', peerId: ALICE }, b: { site: 's', peerId: ALICE } } }),
    'nodes.b.peerId',
    /is listed twice, for 'a' and 'b': every node has its own peer id/,
  ],
  [
    'one address for two nodes',
    good({
      nodes: {
        a: { site: 's', peerId: ALICE, addresses: ['/ip4/192.0.2.1/tcp/1'] },
        b: { site: 's', peerId: BOB, addresses: [`/ip4/192.0.2.1/tcp/1/p2p/${BOB}`] },
      },
    }),
    'nodes.b.addresses',
    /is listed twice, for 'a' and 'b': every node has its own address/,
  ],
  [
    'a segment of no site',
    good({ segments: { x: { site: 'y' } } }),
    'segments.x.site',
    /'y' is no site .* known are s/,
  ],
  [
    'a site whose segment is taken',
    good({ sites: { s: {}, t: {} }, segments: { s: { site: 't' } } }),
    'sites.s',
    /has no segment, and segment 's' belongs to site 't'/,
  ],
  [
    'two segments to choose from',
    good({ segments: { x: { site: 's' }, y: { site: 's' } } }),
    'nodes.a.segment',
    /is missing: site 's' has x, y, name one/,
  ],
  ['a machine nowhere', good({ machines: { m: { segment: 'x' } } }), 'machines.m.segment', /'x' is no segment/],
  ['an unknown NAT', good({ sites: { s: { nat: 'cone' } } }), 'sites.s.nat', /"kept"\|"random"/],
  ['an overlay without keys', good({ overlay: true }), '', /no node with keys: true: name the one that admits/],
  [
    'keys on two nodes',
    good({ nodes: { a: { site: 's', keys: true }, b: { site: 's', keys: true } } }),
    'nodes.b.keys',
    /is true, and 'a' holds the fleet's keys already/,
  ],
  ['a late machine without an overlay', node({ enrolled: false }), 'nodes.a.enrolled', /set overlay: true at the top/],
  [
    'a late holder of the keys',
    certified({ keys: true, enrolled: false }),
    'nodes.a.enrolled',
    /holds the fleet’s keys/,
  ],
  ['a late issuer', certified({ issuer: true, enrolled: false }), 'nodes.a.issuer', /is no member yet/],
  ['a root beside an overlay', good({ overlay: true, trust: { root: 'r' } }), 'trust', /the lab makes the root/],
  ['a machine named as a node', good({ machines: { a: { segment: 's' } } }), 'machines.a', /has the name of a node/],
];

for (const [fault, text, path, message] of FAULTS) {
  test(`${fault} is refused, with file, place and advice`, () => {
    const error = refusal(text);
    const found = error.problems.find((problem) => problem.path === path && message.test(problem.message));
    assert.ok(found, `${path} ${message} not among:\n${error.message}`);
    assert.match(error.message, /^fleet\.yaml(:\d+)?: /);
  });
}

test('a problem names the line of its key, or of the part that misses it', () => {
  const error = refusal(`fleet: f
sites:
  s: { lan: 5 }
  t:
    uplink:
      up: 1Mbit
nodes:
  a:
    site: s
    roles: [seed,
      king]
`);
  const lines = Object.fromEntries(error.problems.map((problem) => [problem.path, problem.line]));
  assert.deepEqual(lines, { 'sites.s.lan': 3, 'sites.t.uplink.down': 5, 'nodes.a.roles.1': 11 });
  assert.match(error.message, /^fleet\.yaml:3: sites\.s\.lan is no rate/);
});

test('a file that is absent, a folder, or too large is refused by name', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'bm-description-'));
  t.after(() => rm(folder, { recursive: true }));
  const large = join(folder, 'large.yaml');
  await writeFile(large, '');
  await truncate(large, MAX_DESCRIPTION_BYTES + 1);
  await assert.rejects(
    readDescription(join(folder, 'none.yaml')),
    /none\.yaml: cannot be read \(ENOENT.*check the path/,
  );
  await assert.rejects(readDescription(folder), { code: 'DESCRIPTION_INVALID', message: /cannot be read \(EISDIR/ });
  await assert.rejects(readDescription(large), /large\.yaml: is larger than 1MiB/);
});

test('whatever the text, the answer is a description or DescriptionInvalid', () => {
  const word = fc.constantFrom('fleet', 'sites', 'nodes', 'machines', 'segments', 'a', 's', 'site', '__proto__', 'lan');
  const { tree } = fc.letrec<{ tree: unknown; leaf: unknown }>((tie) => ({
    leaf: fc.oneof(fc.constantFrom('a', 's', '1Mbit', null, '1GiB', ALICE, '/ip4/1.2.3.4/tcp/1'), fc.jsonValue()),
    tree: fc.oneof({ depthSize: 'small' }, tie('leaf'), fc.dictionary(word, tie('tree'), { maxKeys: 5 })),
  }));
  const body = fc.record({ fleet: fc.constant('a'), sites: tree, nodes: tree, machines: tree }, { requiredKeys: [] });
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc
      .array(fc.constantFrom('{', '}', '[', ']', ':', ' ', '\n', '- ', '&a', '*a', '!!', '"', '|', 'a', '#', '\t'))
      .map((parts) => parts.join('')),
    body.map((value) => stringify(value)),
  );
  fc.assert(fc.property(text, answers), { numRuns: 3000 });
  answers('['.repeat(MAX_DESCRIPTION_BYTES / 8));
  answers(`${'{a: '.repeat(50_000)}`);
});

function answers(text: string): void {
  try {
    parseDescription(text, 'fleet.yaml');
  } catch (error) {
    assert.ok(error instanceof DescriptionInvalid, `${error}`);
    assert.ok(error.problems.length > 0 && error.message.length < 1_000_000);
  }
}

function refusal(text: string): DescriptionInvalid {
  try {
    parseDescription(text, 'fleet.yaml');
  } catch (error) {
    if (error instanceof DescriptionInvalid) return error;
    throw error;
  }
  return assert.fail(`accepted:\n${text}`);
}

function good(changes: Record<string, unknown> = {}): string {
  return stringify(
    { fleet: 'f', sites: { s: {} }, nodes: { a: { site: 's' } }, ...changes },
    { collectionStyle: 'block' },
  );
}

function node(changes: Record<string, unknown>): string {
  return good({ nodes: { a: { site: 's', ...changes } } });
}

/** A fleet with an overlay whose other node holds the keys, unless this one does. */
function certified(changes: Record<string, unknown>): string {
  const other = { site: 's', ...(changes['keys'] === undefined && { keys: true }) };
  return good({ overlay: true, nodes: { a: { site: 's', ...changes }, b: other } });
}

/** "Billion laughs": each list holds the previous one nine times. */
function bomb(): string {
  const lists = Array.from({ length: 9 }, (_, i) => `a${i + 1}: &a${i + 1} [${Array(9).fill(`*a${i}`).join(', ')}]`);
  return ['a0: &a0 x', ...lists].join('\n');
}
