import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import type { DeviceResult, MemberLine, PeerLine, PingLine } from '../../src/admin/results.ts';
import { missingRequirements } from '../../src/lab/requirements.ts';
import { Machines, until } from './machines.ts';

const missing = await missingRequirements();
const skip = missing.length > 0 && missing.join('; ');
/** Three sites behind NATs, of which the third one's gives each packet another port, and a gateway that all can reach. */
const PLACES = {
  centre: { site: 0, wan: true },
  left: { site: 1, wan: false },
  right: { site: 2, wan: false },
  wing: { site: 2, wan: false },
  dark: { site: 3, wan: false },
  /** Has no agent. */
  laptop: { site: 1, wan: false },
} as const;
type Name = keyof typeof PLACES;
const NAMES = ['centre', 'left', 'right', 'wing', 'dark'] as const;

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
  await machines.addNat(2, 'kept');
  await machines.addNat(3, 'random');
});
after(() => machines?.[Symbol.asyncDispose]());

async function members(): Promise<readonly MemberLine[]> {
  return await machines.members('centre');
}

describe('sites behind NATs', { skip, timeout: 120_000 }, () => {
  it('are reached through the fleet’s gateway, every node from every other, whatever the NAT does to ports', async () => {
    const keys = join(machines.folder, 'keys');
    await machines.json('centre', 'fleet', 'init', 'natted', '--keys', keys, '--sites', 'centre,west,east,north');
    await machines.up('centre', ['up', '--keys', keys]);
    await machines.json('centre', 'fleet', 'renew', '--roles', 'gateway');
    for (const [name, site] of [
      ['left', 'west'],
      ['right', 'east'],
      ['wing', 'east'],
      ['dark', 'north'],
    ] as const) {
      await machines.join(name, 'centre', { site, name });
    }
    const address = new Map((await members()).map(({ name, self, address }) => [self ? 'centre' : name, address]));
    for (const from of NAMES) {
      for (const to of NAMES)
        if (from !== to) await until(() => machines.reaches(from, address.get(to)), `${from} → ${to}`);
    }
    const atCentre = await machines.overlay('centre');
    const seen = atCentre.peers?.map(({ endpoint = '' }) => endpoint.split(':')[0]).toSorted();
    assert.deepEqual(seen, ['10.99.0.201', '10.99.0.202', '10.99.0.202', '10.99.0.203'], 'all as their routers');
  });

  it('meet directly where both NATs keep ports, with one address for each, and through the gateway where not', async () => {
    const expected: Record<string, Record<string, string>> = {
      left: { centre: 'overlay', right: 'overlay', wing: 'overlay', dark: 'gateway centre' },
      right: { centre: 'overlay', left: 'overlay', wing: 'lan', dark: 'gateway centre' },
      dark: { centre: 'overlay', left: 'gateway centre', right: 'gateway centre', wing: 'gateway centre' },
    };
    const named = new Map((await members()).map(({ name, self }) => [name, self ? 'centre' : name]));
    for (const [from, ways] of Object.entries(expected)) {
      let found: Record<string, string> = {};
      const met = async () => {
        const peers = await machines.peers(from);
        const text = ({ path, via }: PeerLine) => (via === undefined ? `${path}` : `${path} ${named.get(via)}`);
        found = Object.fromEntries(peers.map((peer) => [named.get(peer.name ?? '') ?? '', text(peer)]));
        return isDeepStrictEqual(found, ways);
      };
      await until(met, `${from} reaches the others as it should`).catch(() => assert.deepEqual(found, ways));
    }
    const { peers = [] } = await machines.overlay('left');
    // One without addresses is on trial still.
    const open = peers.filter(({ allowedIps }) => allowedIps.length > 0);
    const allowed = Object.fromEntries(open.map(({ name = '', allowedIps }) => [named.get(name), allowedIps.length]));
    assert.deepEqual(allowed, { centre: 4, right: 1, wing: 1 }, 'the gateway has the three other sites behind it');
  });

  it('go on through the gateway when a direct way breaks', async () => {
    await machines.namespace('nat2').run(['nft', 'add chain ip nat out { type filter hook forward priority 0 ; }']);
    await machines.namespace('nat2').run(['nft', 'add rule ip nat out ip daddr 10.99.0.201 drop']);
    const through = async () => {
      const peers = await machines.peers('left');
      return peers.some(({ name, path, connected }) => name === 'wing' && connected && path === 'gateway');
    };
    await until(through, 'left reaches wing through the gateway', 40_000);
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
    const known = await members();
    const reachesAll = async () => {
      const all = known
        .filter(({ roles }) => !roles.includes('device'))
        .map((one) => machines.reaches('laptop', one.address));
      return (await Promise.all(all)).every(Boolean);
    };
    await until(reachesAll, 'the laptop reaches every node');
    await machines.json('centre', 'fleet', 'revoke', 'laptop');
    await until(
      async () => !(await machines.reaches('laptop', known[0]?.address)),
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
    for (const name of ['left', 'wing', 'dark'] as const) {
      const argv = ['get', 'production:kernel', '-o', got(name)];
      await until(async () => (await machines.run(name, ...argv)).code === 0, `the kernel at ${name}`);
      assert.ok((await readFile(got(name))).equals(bytes));
    }
    const { pings } = await machines.json<{ pings: PingLine[] }>('left', 'ping', 'wing', 'dark');
    assert.deepEqual(
      pings.map(({ name, outcome }) => [name, outcome]),
      [
        ['wing', 'chunk'],
        ['dark', 'chunk'],
      ],
    );
    await Promise.all(NAMES.map((name) => machines.down(name)));
  });
});
