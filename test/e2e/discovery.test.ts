import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { connectAdmin } from '../../src/admin/admin-client.ts';
import { parseDescription } from '../../src/fleet/description.ts';
import { labUp } from '../../src/lab/lab.ts';
import { missingRequirements } from '../../src/lab/requirements.ts';

const bootmesh = fileURLToPath(new URL('../../src/launch/launch.js', import.meta.url));
const FLEET = `
fleet: whispers
channels: [production]
sites: { hall: {} }
nodes:
  one: { site: hall }
  two: { site: hall }
`;

const missing = await missingRequirements();
const skip = missing.length > 0 && `no lab can be made here: ${missing.join('; ')}`;

test('members of a segment whose addresses nobody wrote down find each other', { skip, timeout: 60_000 }, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'bm-discovery-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const lab = await labUp(
    parseDescription(FLEET, 'fleet.yaml'),
    { agentCommand: [process.execPath, bootmesh, 'up'], directory: join(directory, 'lab'), start: [] },
    { signal: t.signal },
  );
  await using _ = lab;
  const { fleetFile } = lab.node('one');
  const known = await readFile(fleetFile, 'utf8');
  const unknown = known.replaceAll(/^ +addresses:.*\n(?: +- .*\n)*/gm, '');
  assert.ok(!unknown.includes('/ip4/') && !unknown.includes('/ip6/'), unknown);
  await writeFile(fleetFile, unknown);
  await Promise.all(['one', 'two'].map((name) => lab.startNode(name, { signal: t.signal })));
  for (const name of ['one', 'two']) {
    const admin = await connectAdmin(lab.node(name).data);
    assert.ok(admin !== undefined);
    while ((await admin.status({}, { signal: t.signal })).peersConnected === 0) {
      await delay(100, undefined, { signal: t.signal });
    }
  }
});
