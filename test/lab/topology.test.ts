import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type FleetDescription, parseDescription } from '../../src/fleet/description.ts';
import { UNLIMITED } from '../../src/lab/shaping.ts';
import { planTopology, type Topology } from '../../src/lab/topology.ts';

const TWO_SITES = `
fleet: two
sites:
  origin: { uplink: { up: 20Mbit, down: 30Mbit } }
  edge: { lan: 1Gbit }
segments:
  machines: { site: edge }
  gateways: { site: edge, families: [ipv6] }
nodes:
  publisher: { site: origin }
  edge-1: { site: edge, segment: machines }
  edge-2: { site: edge, segment: machines, link: { up: 10Mbit, down: 40Mbit } }
  gate: { site: edge, segment: gateways }
machines:
  bare-1: { segment: machines }
`;

test('each site has a router, each segment a switch, each node a cable with addresses', () => {
  const plan = planTopology(parseDescription(TWO_SITES, 'two.yaml'), 'abc');
  assert.deepEqual(
    plan.namespaces.map(({ name }) => name.replace('bm-abc-', '')),
    [
      'wan',
      'r-origin',
      'r-edge',
      's-machines',
      's-gateways',
      's-origin',
      'n-publisher',
      'n-edge-1',
      'n-edge-2',
      'n-gate',
    ],
  );
  assert.deepEqual(plan.nodes['edge-2']?.addresses.ipv4, '10.77.1.12');
  assert.match(plan.nodes['edge-2']?.addresses.ipv6 ?? '', /^fd[0-9a-f]{2}:[0-9a-f]+:[0-9a-f]+:1::c$/);
  assert.equal(plan.nodes['edge-2']?.router.ipv4, '10.77.1.1');
  assert.equal(plan.nodes['publisher']?.addresses.ipv4, '10.77.3.11');
  assert.deepEqual(plan.pools['machines'], { from: '10.77.1.100', to: '10.77.1.199' });
  assert.equal(plan.machines['bare-1']?.namespace, 'bm-abc-s-machines');
  assert.deepEqual(plan.solicited, [{ namespace: 'bm-abc-r-edge', interface: 'lan1' }]);
});

test('a segment of IPv6 only has no IPv4 address, route or pool', () => {
  const plan = planTopology(parseDescription(TWO_SITES, 'two.yaml'), 'abc');
  assert.deepEqual(Object.keys(plan.nodes['gate']?.addresses ?? {}), ['ipv6']);
  assert.deepEqual(Object.keys(plan.nodes['gate']?.router ?? {}), ['ipv6']);
  assert.equal(plan.pools['gateways'], undefined);
  assert.ok(plan.routes.every(({ to }) => to !== '10.77.2.0/24'));
});

test('an uplink is shaped at the sender of each direction, and counted also when unlimited', () => {
  const plan = planTopology(parseDescription(TWO_SITES, 'two.yaml'), 'abc');
  const rateOf = ({ namespace, interface: name }: { namespace: string; interface: string }) =>
    plan.cables.flat().find((end) => end.namespace === namespace && end.interface === name)?.rate;
  const { origin, edge } = plan.uplinks;
  assert.ok(origin && edge);
  assert.equal(origin.toSite.namespace, 'bm-abc-wan');
  assert.deepEqual([rateOf(origin.toSite), rateOf(origin.fromSite)], [30e6, 20e6]);
  assert.deepEqual([rateOf(edge.toSite), rateOf(edge.fromSite)], [UNLIMITED, UNLIMITED]);
  assert.equal(rateOf({ namespace: 'bm-abc-n-edge-1', interface: 'eth0' }), 1e9);
  // A cable of its own rates, each shaped where it is sent.
  assert.equal(rateOf({ namespace: 'bm-abc-n-edge-2', interface: 'eth0' }), 10e6);
  assert.equal(rateOf({ namespace: 'bm-abc-s-machines', interface: 'p2' }), 40e6);
  assert.equal(rateOf({ namespace: 'bm-abc-n-publisher', interface: 'eth0' }), undefined);
});

test('a site behind a NAT is one IPv4 address: nobody has a route to it, and it has none but for IPv4', () => {
  const text = TWO_SITES.replace('edge: { lan', 'edge: { nat: random, lan').replace('sites:', 'sites:\n  hub: {}');
  const plan = planTopology(parseDescription(text, 'two.yaml'), 'abc');
  assert.deepEqual(plan.nats, [{ namespace: 'bm-abc-r-edge', interface: 'wan', ports: 'random' }]);
  const ofRouter = (name: string) =>
    plan.routes.flatMap(({ namespace, to }) => (namespace === `bm-abc-r-${name}` ? [to] : []));
  const open = { hub: '10.77.3.0/24', origin: '10.77.4.0/24' };
  assert.deepEqual(ofRouter('edge'), [open.hub, open.origin]);
  assert.deepEqual(
    ofRouter('origin').map((to) => to.replace(/^fd.*:(\w+)::/, '…:$1::')),
    [open.hub, '…:3::/64'],
  );
  const wan = plan.cables.flat().find((end) => end.namespace === 'bm-abc-r-edge' && end.interface === 'wan');
  assert.deepEqual(wan?.addresses, ['10.77.0.3/24']);
  // Its links are shaped all the same.
  assert.equal(plan.cables.flat().find((end) => end.namespace === 'bm-abc-n-edge-1')?.rate, 1e9);
});

test('more than the address plan holds is refused with the limit', () => {
  const nodes = Object.fromEntries(Array.from({ length: 90 }, (_, i) => [`n${i}`, { site: 's' }]));
  const text = JSON.stringify({ fleet: 'f', sites: { s: {} }, nodes });
  assert.throws(() => planTopology(parseDescription(text, 'f.yaml'), 'abc'), {
    code: 'TOPOLOGY',
    message: /at most 89 nodes on one segment \('s'\), and the description has 90/,
  });
});

test('whatever the fleet, names fit the kernel, nothing is used twice, and every end has a place', () => {
  const name = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/);
  const names = fc.uniqueArray(name, { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(names, names, names, fc.infiniteStream(fc.nat(1000)), (sites, nodes, machines, choices) => {
      const pick = () => sites[(choices.next().value ?? 0) % sites.length];
      const bare = machines.filter((machine) => !nodes.includes(machine));
      const text = JSON.stringify({
        fleet: 'f',
        sites: Object.fromEntries(sites.map((site) => [site, {}])),
        nodes: Object.fromEntries(nodes.map((node) => [node, { site: pick() }])),
        machines: Object.fromEntries(bare.map((machine) => [machine, { segment: pick() }])),
      });
      const description = parseDescription(text, 'f.yaml');
      const plan = planTopology(description, 'abc123');
      assert.deepEqual(planTopology(description, 'abc123'), plan);
      checkPlan(plan, description);
    }),
    { numRuns: 200 },
  );
});

function checkPlan(plan: Topology, description: FleetDescription): void {
  const places = new Set(plan.namespaces.map(({ name }) => name));
  assert.equal(places.size, plan.namespaces.length);
  const taps = Object.values(plan.machines).map(({ namespace, tap }) => ({ namespace, interface: tap }));
  const ends = [...plan.cables.flat(), ...taps];
  for (const end of ends) {
    assert.ok(places.has(end.namespace) && end.namespace.startsWith(plan.prefix) && end.namespace.length < 100);
    assert.match(end.interface, /^[a-z0-9]{1,15}$/);
  }
  assertUnique(ends.map((end) => `${end.namespace} ${end.interface}`));
  assertUnique(plan.cables.flat().flatMap((end) => end.addresses ?? []));
  assertUnique([...plan.cables.flat(), ...Object.values(plan.machines)].flatMap(({ mac }) => mac ?? []));
  assert.deepEqual(Object.keys(plan.nodes), Object.keys(description.nodes));
  assert.deepEqual(Object.keys(plan.uplinks), Object.keys(description.sites));
}

function assertUnique(values: readonly string[]): void {
  assert.equal(new Set(values).size, values.length, values.join(' '));
}
