import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { OverlayLine } from '../../src/admin/results.ts';
import { parseDescription } from '../../src/fleet/description.ts';
import { labUp } from '../../src/lab/lab.ts';
import { labStatus } from '../../src/lab/lab-control.ts';
import { listNamespaces } from '../../src/lab/namespace.ts';
import { missingRequirements } from '../../src/lab/requirements.ts';
import { runCli } from '../cli/run-cli.ts';
import { until } from './machines.ts';

const FLEET = `
fleet: parted
overlay: true
sites: { hub: {}, plant: { nat: kept }, office: { nat: kept } }
nodes:
  gateway: { site: hub, roles: [gateway, seed] }
  press: { site: plant }
  laptop: { site: office, keys: true }
  desk: { site: office, enrolled: false }
`;

const program = [process.execPath, fileURLToPath(new URL('../../src/launch/launch.js', import.meta.url))];
const missing = await missingRequirements({ nat: true, overlay: true });
const skip = missing.length > 0 && missing.join('; ');

test('a certified fleet in two sites behind NATs is cut, healed, joined and power-cycled', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'bm-parted-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const directory = join(folder, 'lab');
  const options = { agentCommand: [...program, 'up'], directory };
  await using lab = await labUp(parseDescription(FLEET, 'fleet.yaml'), options, { signal: t.signal });
  const { signal } = t;
  const overlayOf = (name: string) => lab.node(name).overlay ?? assert.fail(`${name} is in no overlay`);
  const fetches = async (from: string, url: string) =>
    await lab.exec(from, ['curl', '--silent', '--fail', '--max-time', '1', url]).then(
      () => true,
      () => false,
    );
  const reaches = (from: string, to: string) => fetches(from, `http://[${overlayOf(to).address}]:8080/status`);

  await until(() => reaches('laptop', 'press'), 'office → plant, through the gateway');
  await until(() => reaches('press', 'laptop'), 'plant → office');
  const { peers = [] } = await lab.bootmesh<OverlayLine>('gateway', ['overlay', 'status'], { signal });
  const seen = Object.fromEntries(peers.map(({ name = '', endpoint }) => [name, endpoint]));
  const routers = { press: `10.77.0.2:${overlayOf('press').port}`, laptop: `10.77.0.3:${overlayOf('laptop').port}` };
  assert.deepEqual(seen, routers, 'behind its router each, by its own port');
  const hidden = lab.node('press').gateways.find((url) => url.includes('10.77.')) ?? '';
  assert.equal(await fetches('gateway', `${hidden}/status`), false, 'nobody has a route to what is behind a NAT');

  const cut = await runCli('lab', 'partition', 'plant', '--directory', directory, '--json');
  assert.deepEqual([cut.code, cut.json()], [0, { cuts: [['plant']] }], cut.stderr);
  assert.equal(await reaches('laptop', 'press'), false);
  await assert.rejects(lab.partition('factory'), {
    message: "the lab has no site 'factory': it has hub, plant, office",
  });
  assert.deepEqual((await labStatus(directory)).cuts, [['plant']]);
  await lab.heal();
  await until(() => reaches('laptop', 'press'), 'office → plant, healed');

  await assert.rejects(lab.startNode('desk', { signal }), {
    code: 'LAB_REFUSED',
    message: /no member of the fleet yet/,
  });
  const { token } = await lab.bootmesh<{ token: string }>('laptop', ['fleet', 'invite', '--name', 'desk'], { signal });
  await lab.bootmesh('desk', ['join', token, '--name', 'desk'], { signal });
  await lab.startNode('desk', { signal });
  await assert.rejects(lab.bootmesh('desk', ['fleet', 'invite']), { name: 'VerbFailed', exitCode: 4 });

  const before = lab.pid('press');
  assert.deepEqual((await lab.powerCycle('plant', { signal })).nodes, ['press']);
  assert.notEqual(lab.pid('press'), before);
  await until(() => reaches('press', 'desk'), 'plant → who joined before it was on again');

  await lab[Symbol.asyncDispose]();
  assert.deepEqual(await listNamespaces(lab.topology.prefix), []);
  const sockets = await readdir('/var/run/wireguard').catch(() => []);
  assert.deepEqual(
    sockets.filter((name) => name.startsWith(overlayOf('gateway').interface.slice(0, -1))),
    [],
  );
  assert.deepEqual(await readdir(folder), []);
});
