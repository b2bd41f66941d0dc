import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { MemberLine, OverlayLine } from '../../src/admin/results.ts';
import { missingRequirements } from '../../src/lab/requirements.ts';
import { Machines } from './machines.ts';

const missing = await missingRequirements();
const skip = missing.length > 0 && missing.join('; ');
/** Two sites behind NATs, and one gateway that everybody can reach. */
const PLACES = {
  centre: { site: 0, wan: true },
  left: { site: 1, wan: false },
  right: { site: 2, wan: false },
  wing: { site: 2, wan: false },
} as const;
type Name = keyof typeof PLACES;
const NAMES = Object.keys(PLACES) as Name[];

let machines: Machines;

before(async () => {
  if (skip) return;
  const env = (name: string) => ({
    BOOTMESH_OVERLAY_MODE: 'userspace',
    // The control sockets of wireguard-go are shared by all namespaces.
    BOOTMESH_OVERLAY_INTERFACE: `bn${process.pid % 100_000}${name[0]}`,
  });
  machines = await Machines.open('n', NAMES, env, (name) => PLACES[name as Name]);
  await machines.addNat(1, 'kept');
  await machines.addNat(2, 'random');
});
after(() => machines?.[Symbol.asyncDispose]());

async function until(met: () => Promise<boolean>, what: string, ms = 30_000): Promise<void> {
  const from = performance.now();
  while (!(await met())) {
    assert.ok(performance.now() - from < ms, `not within ${ms} ms: ${what}`);
    await delay(200);
  }
}

async function reaches(from: Name, address: string | undefined): Promise<boolean> {
  const argv = ['curl', '--silent', '--fail', '--max-time', '2', `http://[${address}]:8080/status`];
  return await machines
    .namespace(from)
    .run(argv)
    .then(
      () => true,
      () => false,
    );
}

describe('sites behind NATs', { skip, timeout: 120_000 }, () => {
  it('are reached through the fleet’s gateway, every node from every other, whatever the NAT does to ports', async () => {
    const keys = join(machines.folder, 'keys');
    await machines.json('centre', 'fleet', 'init', 'natted', '--keys', keys, '--sites', 'centre,west,east');
    await machines.up('centre', ['up', '--keys', keys]);
    await machines.json('centre', 'fleet', 'renew', '--roles', 'gateway');
    for (const [name, site] of [
      ['left', 'west'],
      ['right', 'east'],
      ['wing', 'east'],
    ] as const) {
      await machines.join(name, 'centre', '--site', site, '--name', name);
    }
    const { members } = await machines.json<{ members: MemberLine[] }>('centre', 'fleet', 'ls');
    const address = new Map(members.map(({ name, self, address }) => [self ? 'centre' : name, address]));
    for (const from of NAMES) {
      for (const to of NAMES) if (from !== to) await until(() => reaches(from, address.get(to)), `${from} → ${to}`);
    }
    const { peers = [] } = await machines.json<OverlayLine>('left', 'overlay', 'status');
    assert.deepEqual(
      peers.map(({ allowedIps }) => allowedIps.length),
      [3],
      'the gateway, with the two other sites behind it',
    );
    const atCentre = await machines.json<OverlayLine>('centre', 'overlay', 'status');
    const seen = atCentre.peers?.map(({ endpoint = '' }) => endpoint.split(':')[0]).toSorted();
    assert.deepEqual(seen, ['10.99.0.201', '10.99.0.202', '10.99.0.202'], 'both sites are seen as their routers');
  });

  it('get chunks over it', async () => {
    const bytes = randomBytes(2_000_000);
    const file = join(machines.folder, 'kernel');
    await writeFile(file, bytes);
    await machines.json('centre', 'publish', '--channel', 'production', '--kernel', file, '--initramfs', file);
    const got = (name: Name) => join(machines.folder, `${name}.got`);
    for (const name of ['left', 'right'] as const) {
      const argv = ['get', 'production:kernel', '-o', got(name)];
      await until(async () => (await machines.run(name, ...argv)).code === 0, `the kernel at ${name}`);
      assert.ok((await readFile(got(name))).equals(bytes));
    }
    await Promise.all(NAMES.map((name) => machines.down(name)));
  });
});
