import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Founder, foundFleet } from '../../src/enrolment/founding.ts';
import { fleetFiles, Membership } from '../../src/enrolment/membership.ts';
import { createFleet } from '../../src/enrolment/new-fleet.ts';
import { loadIdentity } from '../../src/fleet/identity.ts';
import { Roster } from '../../src/fleet/roster.ts';
import { readTrustList } from '../../src/fleet/trust-list.ts';
import { silentLog } from '../../src/observe/log.ts';
import { MetadataStore } from '../../src/release/metadata-store.ts';

const deps = { log: silentLog, signal: AbortSignal.timeout(20_000) };

/** As an agent opens it, on a node without the fleet's keys. */
async function membershipOf(data: string): Promise<Membership> {
  const root = await readFile(fleetFiles(data).root);
  const { state } = await MetadataStore.open(join(data, 'release'), root, deps);
  const roster = new Roster({ nodes: {} });
  const identity = await loadIdentity(data);
  const trust = state?.chain.trust;
  const clock = { now: Date.now, signed: () => undefined };
  return await Membership.open({ data, identity, roster, keys: undefined, trust, clock, log: silentLog });
}

async function scratch(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'bm-founding-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

test('founders are members who know each other, and where they are, before any of them has run', async (t) => {
  const folder = await scratch(t);
  const keys = await createFleet(join(folder, 'keys'), {
    fleet: 'f',
    channels: ['production'],
    sites: ['hub', 'edge'],
  });
  const founder = (name: string, site: string, facts: Partial<Founder> = {}): Founder => {
    const places = { addresses: ['/ip4/192.0.2.1/tcp/4001'], endpoints: ['192.0.2.1:51820'] };
    return { data: join(folder, name), name, site, roles: [], issuer: false, ...places, ...facts };
  };
  const founders = [founder('gate', 'hub', { roles: ['gateway'] }), founder('press', 'edge', { issuer: true })];
  await foundFleet(keys, join(folder, 'repository'), founders, deps);

  for (const { data, name, site, roles } of founders) {
    assert.ok((await readFile(fleetFiles(data).root)).equals(keys.root));
    const { own, certified } = await membershipOf(data);
    assert.deepEqual([own?.name, own?.site, own?.roles], [name, site, roles]);
    const { members, issuer } = certified ?? assert.fail('there are certificates');
    assert.deepEqual(members.members.map((one) => one.name).toSorted(), ['gate', 'press']);
    for (const { peerId } of members.members) assert.deepEqual(members.binding(peerId)?.endpoints, ['192.0.2.1:51820']);
    assert.equal(issuer?.site, name === 'press' ? 'edge' : undefined);
    assert.equal(issuer?.name, name === 'press' ? 'press' : undefined);
  }
  assert.deepEqual(
    readTrustList(await keys.trust())
      .issuers.map(({ name }) => name)
      .toSorted(),
    ['owner', 'press'],
  );
});
