import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { DeviceResult, MemberLine, OverlayLine } from '../../src/admin/results.ts';
import { missingRequirements } from '../../src/lab/requirements.ts';
import { Machines, until } from './machines.ts';

const missing = await missingRequirements();
const skip = missing.length > 0 && missing.join('; ');
/** Two sites behind NATs, and one gateway that everybody can reach. */
const PLACES = {
  centre: { site: 0, wan: true },
  left: { site: 1, wan: false },
  right: { site: 2, wan: false },
  wing: { site: 2, wan: false },
  /** Has no agent. */
  laptop: { site: 1, wan: false },
} as const;
type Name = keyof typeof PLACES;
const NAMES = ['centre', 'left', 'right', 'wing'] as const;

let machines: Machines;

before(async () => {
  if (skip) return;
  const env = (name: string): Record<string, string> => ({
    BOOTMESH_OVERLAY_MODE: 'userspace',
    // The control sockets of wireguard-go are shared by all namespaces.
    BOOTMESH_OVERLAY_INTERFACE: `bn${process.pid % 100_000}${name[0]}`,
    // Which of its addresses others reach, a machine cannot know.
    ...(name === 'centre' && { BOOTMESH_OVERLAY_ENDPOINTS: '10.99.0.1:51820' }),
  });
  machines = await Machines.open('n', Object.keys(PLACES), env, (name) => PLACES[name as Name]);
  await machines.addNat(1, 'kept');
  await machines.addNat(2, 'random');
});
after(() => machines?.[Symbol.asyncDispose]());

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
      for (const to of NAMES)
        if (from !== to) await until(() => machines.reaches(from, address.get(to)), `${from} → ${to}`);
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

  it('so is a laptop without an agent, by an exported configuration, until it is revoked', async () => {
    const file = join(machines.folder, 'laptop.conf');
    const device = await machines.json<DeviceResult>(
      'centre',
      'overlay',
      'export',
      'laptop',
      '--site',
      'west',
      '-o',
      file,
    );
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.equal((await machines.run('centre', 'overlay', 'export', 'laptop', '-o', file)).code, 1, 'never replaced');
    // What wg-quick does, but for the names of the interface and the program.
    const text = await readFile(file, 'utf8');
    const [, address = ''] = /^Address = (.*)$/m.exec(text) ?? [];
    assert.equal(address, `${device.address}/128`);
    const bare = join(machines.folder, 'laptop.wg');
    await writeFile(bare, text.replace(/^(Address|MTU) = .*\n/gm, ''), { mode: 0o600 });
    const laptop = machines.namespace('laptop');
    const name = `bn${process.pid % 100_000}p`;
    const env = { ...process.env, WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD: '1' };
    const program = laptop.spawn(['wireguard-go', '--foreground', name], { env, stdio: 'ignore' });
    await until(
      async () =>
        await laptop.run(['wg', 'setconf', name, bare]).then(
          () => true,
          () => false,
        ),
      'wireguard-go',
    );
    await laptop.ip('address', 'add', address, 'dev', name, 'nodad');
    await laptop.ip('link', 'set', 'dev', name, 'mtu', '1420', 'up');
    await laptop.ip('-6', 'route', 'add', `${device.address.split(':').slice(0, 3).join(':')}::/48`, 'dev', name);
    const { members } = await machines.json<{ members: MemberLine[] }>('centre', 'fleet', 'ls');
    const reachesAll = async () => {
      const all = members
        .filter(({ roles }) => !roles.includes('device'))
        .map((one) => machines.reaches('laptop', one.address));
      return (await Promise.all(all)).every(Boolean);
    };
    await until(reachesAll, 'the laptop reaches every node');
    await machines.json('centre', 'fleet', 'revoke', 'laptop');
    await until(
      async () => !(await machines.reaches('laptop', members[0]?.address)),
      'and none when it is revoked',
      10_000,
    );
    program.kill('SIGKILL');
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
