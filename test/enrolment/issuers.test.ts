import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { addIssuer } from '../../src/enrolment/issuers.ts';
import { createFleet } from '../../src/enrolment/new-fleet.ts';
import { readTrustList } from '../../src/fleet/trust-list.ts';
import { type Chain, readChain } from '../../src/release/chain.ts';
import { createFleetKeys, openFleetKeys } from '../../src/release/fleet-keys.ts';
import { publish, renew } from '../../src/release/publisher.ts';
import { artifact } from '../fakes/release-fleet.ts';

suite('issuers', () => {
  test('of a new fleet are one for all sites; more can be added, each with its site', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'bm-issuers-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const directory = join(folder, 'keys');
    const keys = await createFleet(directory, { fleet: 'lab', channels: ['production'], sites: ['hq', 'edge'] });
    const out = join(folder, 'issuer.key');
    const added = await addIssuer(directory, { name: 'moon', site: 'moon', roles: ['seed'], days: 10 }, out);
    assert.deepEqual(added, { issuer: 'moon', file: out, site: 'moon', siteNumber: 3 });
    assert.equal((await stat(out)).mode & 0o777, 0o600);
    const list = readTrustList(await keys.trust());
    assert.equal(list.fleetId, keys.fleetId);
    assert.deepEqual(list.sites, { hq: 1, edge: 2, moon: 3 });
    assert.partialDeepStrictEqual(list.issuers, [
      { name: 'owner', maxDays: 365 },
      { name: 'moon', site: 'moon', roles: ['seed'], maxDays: 10 },
    ]);
    const key = await readFile(out);
    await assert.rejects(addIssuer(directory, { name: 'moon', roles: [], days: 1 }, join(folder, 'x')), /already/);
    await assert.rejects(addIssuer(directory, { name: 'b', roles: ['king'], days: 1 }, join(folder, 'x')), /king/);
    await assert.rejects(addIssuer(directory, { name: 'c', roles: [], days: 0 }, join(folder, 'x')), /maxDays/);
    await assert.rejects(addIssuer(directory, { name: 'd', roles: [], days: 1 }, out), /never overwritten/);
    assert.deepEqual(await readFile(out), key);
    assert.deepEqual(readTrustList(await keys.trust()), list, 'what was refused changed nothing');
  });

  test('are signed with the fleet’s metadata, when it is signed next, and a release does not need them', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'bm-issuers-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const [directory, repository] = [join(folder, 'keys'), join(folder, 'repository')];
    const keys = await createFleet(directory, { fleet: 'lab', channels: ['production'] });
    await renew({ keys, directory: repository });
    assert.deepEqual((await readChainOf(repository, keys.root)).trust, await keys.trust());
    const boot = { kernel: artifact('kernel'), initramfs: artifact('initramfs') };
    await publish({ keys, directory: repository, channel: 'production', ...boot });
    const before = await readChainOf(repository, keys.root);
    await renew({ keys, directory: repository });
    const same = await readChainOf(repository, keys.root);
    assert.equal(
      same.targets.signed.version,
      before.targets.signed.version,
      'unchanged: the targets key is not needed',
    );
    await addIssuer(directory, { name: 'more', roles: [], days: 1 }, join(folder, 'more.key'));
    await renew({ keys, directory: repository });
    const after = await readChainOf(repository, keys.root);
    assert.deepEqual(after.trust, await keys.trust());
    assert.notDeepEqual(after.trust, before.trust);
    assert.deepEqual([...after.channels], [...before.channels]);
  });

  test('a fleet of before has none, and says so', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'bm-issuers-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const directory = join(folder, 'keys');
    await createFleetKeys(directory, { fleet: 'old' });
    assert.deepEqual(
      [(await openFleetKeys(directory)).fleetId, await (await openFleetKeys(directory)).trust()],
      [undefined, undefined],
    );
    await assert.rejects(addIssuer(directory, { name: 'a', roles: [], days: 1 }, join(folder, 'x')), /make a new one/);
  });
});

async function readChainOf(repository: string, root: Buffer): Promise<Chain> {
  const names = (await readdir(repository)).filter((name) => name.endsWith('.json'));
  const documents = names.map(async (name) => [name, await readFile(join(repository, name))] as const);
  return readChain(new Map(await Promise.all(documents)), root);
}
