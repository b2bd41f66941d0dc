import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { MemberLine } from '../../src/admin/results.ts';
import { missingRequirements } from '../../src/lab/requirements.ts';
import { Machines, until } from './machines.ts';

const missing = await missingRequirements();
const skip = missing.length > 0 && missing.join('; ');
/** `hq` and `branch`, each with a gateway on the WAN and a machine that has nothing but its own segment. */
const PLACES = {
  hub: { site: 0, wan: true },
  desk: { site: 0, wan: false },
  gate: { site: 1, wan: true },
  shop: { site: 1, wan: false },
  till: { site: 1, wan: false },
} as const;
type Name = keyof typeof PLACES;
const NAMES = Object.keys(PLACES) as Name[];

let machines: Machines;

before(async () => {
  if (skip) return;
  const env = (name: string) => ({
    BOOTMESH_OVERLAY_MODE: 'userspace',
    // The control sockets of wireguard-go are shared by all namespaces.
    BOOTMESH_OVERLAY_INTERFACE: `bs${process.pid % 100_000}${name[0]}`,
  });
  machines = await Machines.open('s', NAMES, env, (name) => PLACES[name as Name]);
});
after(() => machines?.[Symbol.asyncDispose]());

async function members(at: Name): Promise<readonly MemberLine[]> {
  return await machines.members(at);
}

describe('two sites', { skip, timeout: 150_000 }, () => {
  it('are one overlay through their gateways, which nobody else could reach each other by', async () => {
    const keys = join(machines.folder, 'keys');
    await machines.json('hub', 'fleet', 'init', 'two', '--keys', keys, '--sites', 'hq,branch');
    const issuer = join(machines.folder, 'gate', 'fleet', 'issuer.key');
    await mkdir(join(machines.folder, 'gate', 'fleet'), { recursive: true });
    const facts = ['--site', 'branch', '--roles', 'gateway,seed', '--keys', keys, '--out', issuer];
    await machines.json('hub', 'fleet', 'issuer', 'add', 'branch', ...facts);
    await machines.up('hub', ['up', '--keys', keys]);
    const [own] = await members('hub');
    await machines.json('hub', 'fleet', 'renew', '--roles', 'gateway');
    await machines.join('desk', 'hub', { site: 'hq' });
    await machines.join('gate', 'hub', { site: 'branch', roles: ['gateway'] });
    // Of its own site's issuer, whom hub's network does not reach.
    await machines.join('shop', 'gate');

    const address = new Map((await members('gate')).map((line) => [line.name, line.address]));
    assert.equal(address.size, 4);
    for (const [from, to] of [
      ['desk', 'shop'],
      ['shop', 'desk'],
      ['desk', 'gate'],
      ['shop', own?.name ?? ''],
    ] as const) {
      await until(() => machines.reaches(from, address.get(to)), `${from} → ${to}`);
    }
    const status = await machines.overlay('shop');
    // One without addresses is on trial still.
    const open = status.peers?.filter(({ allowedIps }) => allowedIps.length > 0) ?? [];
    const allowed = Object.fromEntries(open.map(({ name, allowedIps }) => [name, allowedIps.length]));
    assert.deepEqual(allowed, { gate: 2 }, 'the gateway, with its address and the other site behind it');
  });

  it('exchange chunks over it, by the plain lane, since it is encrypted already', async () => {
    const bytes = randomBytes(3_000_000);
    const file = join(machines.folder, 'kernel');
    await writeFile(file, bytes);
    await machines.json('hub', 'publish', '--channel', 'production', '--kernel', file, '--initramfs', file);
    const name = 'production:kernel';
    const out = join(machines.folder, 'got');
    await until(async () => (await machines.run('shop', 'get', name, '-o', out)).code === 0, 'the kernel at shop');
    assert.ok((await readFile(out)).equals(bytes));
    const peers = await machines.peers('shop');
    const far = peers.filter(({ site, connected }) => site === 'hq' && connected);
    assert.ok(far.length > 0);
    for (const { address, lane } of far) {
      assert.match(address ?? '', /^\/ip6\/fd/, 'of another site, over the overlay alone');
      assert.equal(lane, 'plain');
    }
  });

  it('a site that is cut off starts anew, admits, renews and revokes by its own issuer', async () => {
    const branch = ['gate', 'shop'] as const;
    await machines.namespace('gate').setDown('eth1');
    await Promise.all(branch.map((name) => machines.down(name, 'SIGKILL')));
    await Promise.all(branch.map((name) => machines.up(name)));
    await machines.untilPeers('shop', ['gate']);
    await machines.join('till', 'gate');
    await machines.untilPeers('shop', ['gate', 'till']);
    const argv = ['get', 'production:kernel', '-o', join(machines.folder, 'till.got')];
    await until(async () => (await machines.run('till', ...argv)).code === 0, 'the kernel at till');
    const before = (await members('shop')).find(({ name }) => name === 'till');
    await delay(1_100);
    const renewed = await machines.json<MemberLine>('gate', 'fleet', 'renew', 'till');
    assert.ok(renewed.notAfter > (before?.notAfter ?? ''));
    const refused = await machines.run('gate', 'fleet', 'invite', '--site', 'hq');
    assert.match(refused.stderr, /admits to branch alone, not to hq/);
    await machines.json('gate', 'fleet', 'revoke', 'till');
    await machines.untilPeers('shop', ['gate']);
    // Meanwhile the owner, at the other site, wants no more of the shop; whom it is next to cannot know.
    await machines.json('hub', 'fleet', 'revoke', 'shop');
    await machines.namespace('gate').setUp('eth1');
    const known = async () => (await members('hub')).find(({ name }) => name === 'till')?.state === 'revoked';
    await until(known, 'hq hears of it', 40_000);
    const lost = async () => {
      const { peers = [] } = await machines.overlay('gate');
      return !(await machines.peersOf('gate')).includes('shop') && !peers.some(({ name }) => name === 'shop');
    };
    await until(lost, 'gate parts from the shop, streams and tunnel, once it hears of it', 5_000);
    await Promise.all(NAMES.map((name) => machines.down(name)));
  });
});
