import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { addChannelKey, createFleetKeys, FleetKeysUnusable, openFleetKeys } from '../../src/release/fleet-keys.ts';
import { fleetOf } from '../../src/release/trust-root.ts';

const refusedFor = (reason: string) => (error: unknown) =>
  error instanceof FleetKeysUnusable && error.reason === reason;

describe('the keys of a fleet', () => {
  let base: string;
  before(async () => {
    base = await mkdtemp(join(tmpdir(), 'bm-keys-'));
  });
  after(() => rm(base, { recursive: true, force: true }));

  it('are files that only their owner reads, and a root that names them', async () => {
    const directory = join(base, 'deep', 'keys');
    const keys = await createFleetKeys(directory, { fleet: 'demo', channels: ['production', 'testing'] });
    assert.equal((await stat(directory)).mode & 0o777, 0o700);
    for (const name of await readdir(directory))
      assert.equal((await stat(join(directory, name))).mode & 0o777, 0o600, name);
    assert.deepEqual(await keys.channels(), ['production', 'testing']);
    const { fleet, ticketKey } = fleetOf(keys.root);
    assert.equal(fleet, 'demo');
    assert.equal(ticketKey, await readFile(join(directory, 'ticket.pub'), 'utf8'));
    const ids = await Promise.all(
      (['root', 'targets', 'online', { channel: 'production' }, { channel: 'testing' }] as const).map(
        async (name) => (await keys.key(name)).key.keyID,
      ),
    );
    assert.equal(new Set(ids).size, ids.length);
  });

  it('are never overwritten, and leave nothing behind when they are refused', async () => {
    const directory = join(base, 'once');
    const { root } = await createFleetKeys(directory, { fleet: 'demo' });
    await assert.rejects(createFleetKeys(directory, { fleet: 'other' }), refusedFor('exists'));
    assert.deepEqual(await readFile(join(directory, 'root.json')), root);
    const file = join(base, 'a-file');
    await writeFile(file, 'mine');
    await assert.rejects(createFleetKeys(file, { fleet: 'demo' }), refusedFor('exists'));
    assert.equal(await readFile(file, 'utf8'), 'mine');
    await assert.rejects(
      createFleetKeys(join(base, 'bad'), { fleet: 'demo', channels: ['root'] }),
      refusedFor('invalid'),
    );
    await assert.rejects(createFleetKeys(join(base, 'bad'), { fleet: 'No Name' }), /names no fleet/);
    assert.deepEqual(
      (await readdir(base)).filter((name) => /bad|draft/.test(name)),
      [],
    );
  });

  it('appear in an empty directory that is there already', async () => {
    const directory = join(base, 'empty');
    await mkdir(directory);
    await createFleetKeys(directory, { fleet: 'demo' });
    assert.equal((await openFleetKeys(directory)).fleet, 'demo');
  });

  it('are refused when they are missing, exposed or damaged, each by its name', async () => {
    const directory = join(base, 'broken');
    const keys = await createFleetKeys(directory, { fleet: 'demo' });
    await assert.rejects(keys.key({ channel: 'nightly' }), refusedFor('missing'));
    await chmod(join(directory, 'targets.key'), 0o640);
    await assert.rejects(keys.key('targets'), refusedFor('exposed'));
    await writeFile(join(directory, 'online.key'), 'not a key');
    await assert.rejects(keys.key('online'), refusedFor('corrupt'));
    await writeFile(join(directory, 'root.json'), '{}');
    await assert.rejects(openFleetKeys(directory), refusedFor('corrupt'));
  });

  it('grow by a channel, once', async () => {
    const keys = await createFleetKeys(join(base, 'grown'), { fleet: 'demo', channels: ['production'] });
    await addChannelKey(keys, 'canary');
    assert.deepEqual(await keys.channels(), ['canary', 'production']);
    await assert.rejects(addChannelKey(keys, 'canary'), refusedFor('exists'));
  });
});
