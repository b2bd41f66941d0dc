import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { encodeWireguardKey, newWireguardKey } from '../../src/fleet/wireguard-key.ts';
import { missingRequirements } from '../../src/lab/requirements.ts';
import { SecretKey } from '../../src/overlay/network.ts';
import { Machines, until } from './machines.ts';

const missing = await missingRequirements();
const skip = missing.length > 0 && missing.join('; ');
/** Each in a site of its own, and both on the WAN. */
const SITE = { mill: 0, mine: 1 } as const;
type Name = keyof typeof SITE;
const NAMES = ['mill', 'mine'] as const;

let machines: Machines;

before(async () => {
  if (skip) return;
  const env = (name: string) => ({
    BOOTMESH_OVERLAY_MODE: 'userspace',
    BOOTMESH_OVERLAY_INTERFACE: `bi${process.pid % 100_000}${name[2]}`,
  });
  machines = await Machines.open('i', NAMES, env, (name) => ({ site: SITE[name as Name], wan: true }));
});
after(() => machines?.[Symbol.asyncDispose]());

/** wg-quick's configuration of each, as a person wrote it who has never heard of us. */
async function configurations(): Promise<Record<Name, string>> {
  const keys = NAMES.map(() => encodeWireguardKey(newWireguardKey()));
  const shared = randomBytes(32).toString('base64');
  const files = { mill: join(machines.folder, 'mill.conf'), mine: join(machines.folder, 'mine.conf') };
  for (const [own, name] of NAMES.entries()) {
    const lines = [
      '[Interface]',
      `Address = 10.66.0.${own + 1}/24`,
      'ListenPort = 51900',
      `PrivateKey = ${keys[own]}`,
      '[Peer] # the other one',
      `PublicKey = ${new SecretKey(keys[1 - own] ?? '').publicKey()}`,
      `PresharedKey = ${shared}`,
      `AllowedIPs = 10.66.0.${2 - own}/32`,
      `Endpoint = 10.99.0.${2 - own}:51900`,
    ];
    await writeFile(files[name], `${lines.join('\n')}\n`, { mode: 0o600 });
  }
  return files;
}

describe('a WireGuard network that was there before', { skip, timeout: 120_000 }, () => {
  it('is imported, and carries what sites exchange, at the addresses that members have in it', async () => {
    const files = await configurations();
    const keys = join(machines.folder, 'keys');
    await machines.json('mill', 'fleet', 'init', 'ores', '--keys', keys, '--sites', 'mill,mine');
    for (const name of NAMES) await machines.json(name, 'overlay', 'import', files[name]);
    assert.equal((await stat(join(machines.folder, 'mine', 'network.conf'))).mode & 0o777, 0o600);
    await machines.up('mill', ['up', '--keys', keys]);
    await machines.join('mine', 'mill', { site: 'mine' });

    const bytes = randomBytes(400_000);
    const file = join(machines.folder, 'kernel');
    await writeFile(file, bytes);
    await machines.json('mill', 'publish', '--channel', 'production', '--kernel', file, '--initramfs', file);
    const got = join(machines.folder, 'got');
    const get = ['get', 'production:kernel', '-o', got];
    await until(async () => (await machines.run('mine', ...get)).code === 0, 'the kernel at mine');
    assert.ok((await readFile(got)).equals(bytes));

    const [peer] = await machines.peers('mine');
    assert.partialDeepStrictEqual(peer, { connected: true, path: 'overlay', lane: 'plain' });
    assert.match(peer?.address ?? '', /^\/ip4\/10\.66\.0\.1\/tcp\//);
    const status = await machines.overlay('mine');
    assert.partialDeepStrictEqual(status, { state: 'up', imported: true, address: '10.66.0.2/24', port: 51900 });
    assert.deepEqual(
      status.peers?.map(({ path, allowedIps }) => [path, allowedIps]),
      [['direct', ['10.66.0.1/32']]],
    );
  });

  it('is refused when it would carry everything, and is forgotten when it is told to be', async () => {
    const wide = join(machines.folder, 'wide.conf');
    const text = await readFile(join(machines.folder, 'mine.conf'), 'utf8');
    await writeFile(wide, text.replace('10.66.0.1/32', '0.0.0.0/0'));
    const refused = await machines.run('mine', 'overlay', 'import', wide);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /wide\.conf: AllowedIPs = 0\.0\.0\.0\/0 sends everything there/);
    await machines.down('mine');
    await machines.json('mine', 'overlay', 'import', '--forget');
    await machines.up('mine');
    assert.equal((await machines.overlay('mine')).imported, undefined);
    await Promise.all(NAMES.map((name) => machines.down(name)));
  });
});
