import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { missingRequirements } from '../../src/lab/requirements.ts';
import { parseDump } from '../../src/overlay/dump.ts';
import { Machines, until } from './machines.ts';

const missing = await missingRequirements();
const skip = missing.length > 0 && missing.join('; ');
const NAMES = ['alpha', 'beta', 'gamma'] as const;
type Name = (typeof NAMES)[number];
/** The control sockets of wireguard-go are shared by all namespaces. */
const interfaceOf = (name: string) => `bm${process.pid % 100_000}${name[0]}`;

let machines: Machines;

before(async () => {
  if (skip) return;
  machines = await Machines.open('o', NAMES, (name) => ({
    BOOTMESH_OVERLAY_MODE: 'userspace',
    BOOTMESH_OVERLAY_INTERFACE: interfaceOf(name),
  }));
});
after(() => machines?.[Symbol.asyncDispose]());

/** What WireGuard itself says: of each peer what it may send, sorted. */
async function allowed(name: Name): Promise<string[]> {
  const { stdout } = await machines.namespace(name).run(['wg', 'show', interfaceOf(name), 'dump']);
  return parseDump(stdout)
    .peers.map(({ allowedIps }) => allowedIps.join())
    .toSorted();
}

async function addresses(): Promise<Record<string, string>> {
  const members = await machines.members('alpha');
  return Object.fromEntries(members.map(({ name, self, address }) => [self ? 'alpha' : name, address]));
}

describe('the overlay of a site', { skip, timeout: 120_000 }, () => {
  it('knows exactly the site’s members, each by its own address, and carries packets between all pairs', async () => {
    await machines.up('alpha');
    await machines.join('beta', 'alpha');
    await machines.join('gamma', 'alpha');
    const address = await addresses();
    for (const name of NAMES) {
      const others = NAMES.filter((other) => other !== name).map((other) => `${address[other]}/128`);
      const right = async () => (await allowed(name)).join() === others.toSorted().join();
      await until(right, `${name} has the peers ${others}`);
      for (const other of NAMES)
        if (other !== name) assert.ok(await machines.reaches(name, address[other]), `${name} → ${other}`);
    }
    const status = await machines.overlay('gamma');
    assert.partialDeepStrictEqual(status, { state: 'up', driver: 'userspace', address: `${address['gamma']}/128` });
    assert.deepEqual(
      status.peers?.map(({ path }) => path),
      ['lan', 'lan'],
    );
    assert.ok(status.peers?.every(({ bytesIn, handshakeAt }) => bytesIn > 0 && handshakeAt !== undefined));
  });

  it('what others do to the interface is set right again, and the sessions of the rest go on', async () => {
    const before = await allowed('alpha');
    const { peers = [] } = await machines.overlay('alpha');
    const [beta, gamma] = ['beta', 'gamma'].map((name) => peers.find((peer) => peer.name === name));
    assert.ok(beta && gamma);
    const set = (...args: string[]) => machines.namespace('alpha').run(['wg', 'set', interfaceOf('alpha'), ...args]);
    await set('peer', beta.publicKey, 'allowed-ips', '::/0');
    const stranger = Buffer.alloc(32, 9).toString('base64');
    await set('peer', stranger, 'allowed-ips', gamma.allowedIps.join());
    await until(async () => (await allowed('alpha')).join() === before.join(), 'as it was');
    assert.ok(await machines.reaches('gamma', (await addresses())['alpha']));
    const after = await machines.overlay('alpha');
    const same = after.peers?.find(({ name }) => name === 'gamma');
    assert.equal(same?.handshakeAt, gamma.handshakeAt, 'gamma’s session is the one of before');
  });

  it('a machine whose wireguard-go dies has its interface again within seconds', async () => {
    const pids = async () => {
      const argv = ['pgrep', '-f', `foreground ${interfaceOf('beta')}$`];
      const { stdout } = await machines
        .namespace('beta')
        .run(argv)
        .catch(() => ({ stdout: '' }));
      return stdout.trim();
    };
    const before = await pids();
    process.kill(Number(before), 'SIGKILL');
    const address = await addresses();
    await until(async () => ![before, ''].includes(await pids()), 'another process');
    await until(() => machines.reaches('alpha', address['beta']), 'beta is back');
  });

  it('what is meant for the overlay goes no other way while it is away', async () => {
    const beta = machines.namespace('beta');
    const { alpha = '', beta: own } = await addresses();
    const wayTo = async (address: string) => (await beta.run(['ip', '-6', 'route', 'get', address])).stdout;
    await beta.ip('-6', 'route', 'add', `${alpha}/128`, 'dev', 'eth0');
    assert.match(await wayTo(alpha), new RegExp(`dev ${interfaceOf('beta')} `), 'whoever has a more special route');
    await machines.down('beta', 'SIGKILL');
    await beta.ip('-6', 'route', 'add', 'default', 'dev', 'eth0');
    const gone = async () => !(await beta.run(['ip', '-brief', 'link'])).stdout.includes(interfaceOf('beta'));
    await until(gone, 'wireguard-go ends with its agent');
    await assert.rejects(wayTo(alpha), /unreachable|No route/i);
    await machines.up('beta');
    await until(() => machines.reaches('alpha', own), 'beta is back');
  });

  it('an interface that is somebody else’s is left alone, and the agent goes on without one', async () => {
    await machines.down('beta');
    const beta = machines.namespace('beta');
    const name = interfaceOf('beta');
    const env = { ...process.env, WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD: '1' };
    const foreign = beta.spawn(['wireguard-go', '--foreground', name], { env, stdio: 'ignore' });
    const key = join(machines.folder, 'foreign.key');
    await writeFile(key, `${Buffer.alloc(32, 7).toString('base64')}\n`, { mode: 0o600 });
    const keyed = async () =>
      (await machines
        .namespace('beta')
        .run(['wg', 'set', name, 'private-key', key])
        .catch(() => false)) !== false;
    await until(keyed, 'the foreign interface');
    await machines.up('beta');
    const status = await machines.overlay('beta');
    assert.equal(status.state, 'missing');
    assert.match(status.why ?? '', new RegExp(`an interface ${name} already.*overlay\\.interface`));
    assert.match((await beta.run(['wg', 'show', name, 'public-key'])).stdout, /=$/m, 'it is still there');
    await machines.down('beta');
    foreign.kill('SIGKILL');
    await machines.up('beta');
    const address = await addresses();
    await until(() => machines.reaches('alpha', address['beta']), 'beta is back');
  });

  it('one that is revoked loses its tunnel within seconds, and nobody else does', async () => {
    const address = await addresses();
    assert.ok(await machines.reaches('gamma', address['beta']));
    await machines.json('alpha', 'fleet', 'revoke', 'beta');
    await Promise.all(
      (['alpha', 'gamma'] as const).map((name) =>
        until(async () => (await allowed(name)).length === 1, `${name} forgets beta`, 5_000),
      ),
    );
    assert.ok(!(await machines.reaches('beta', address['gamma'])), 'beta gets nothing more');
    assert.ok(await machines.reaches('alpha', address['gamma']));
    await Promise.all(NAMES.map((name) => machines.down(name)));
    for (const name of NAMES) {
      const { stdout } = await machines.namespace(name).run(['ip', '-brief', 'link']);
      assert.ok(!stdout.includes(interfaceOf(name)), 'an agent that ends takes its interface away');
    }
  });
});
