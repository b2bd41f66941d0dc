import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { MemberStore } from '../../src/fleet/member-store.ts';
import { MemberSync } from '../../src/fleet/member-sync.ts';
import { Members } from '../../src/fleet/members.ts';
import { silentLog } from '../../src/observe/log.ts';
import { DAY_S, IssuingFleet, peerIds, T0 } from '../fakes/issuing-fleet.ts';
import { Fleet } from '../swarm/fleet.ts';

test('what a member gossips of membership goes through others when it is true, and no further than to them when it is a lie', {
  timeout: 40_000,
}, async (t) => {
  const issuing = new IssuingFleet();
  const topic = `/bootmesh/members/1.0.0/${issuing.trust.fleetId}`;
  const folder = await mkdtemp(join(tmpdir(), 'bm-gossip-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await using fleet = new Fleet();
  await using stack = new AsyncDisposableStack();
  const { swarm: middle } = await fleet.node();
  const { swarm: author } = await fleet.node({ undialled: true });
  const { swarm: reader } = await fleet.node();
  const blamed: string[] = [];
  const store = stack.use(new MemberStore(join(folder, 'members'), { log: silentLog }));
  const members = new Members({ trust: issuing.trust, now: () => T0 + DAY_S });
  stack.use(
    new MemberSync({
      network: middle.documents,
      ...{ members, store, log: silentLog },
      onChange: () => undefined,
      blame: (peer) => blamed.push(peer),
    }),
  );
  author.documents.subscribe(topic, () => 'accept');
  const heard: string[] = [];
  reader.documents.subscribe(topic, (bytes) => {
    heard.push(Buffer.from(bytes).toString('hex'));
    return 'accept';
  });
  const [truths, lies]: [string[], string[]] = [[], []];
  const say = async (bytes: Uint8Array, list: string[]) => {
    list.push(Buffer.from(bytes).toString('hex'));
    await author.documents.announce(topic, bytes);
  };
  // The mesh forms within a heartbeat or two: something new is said until some of it is heard.
  for (const peerId of await peerIds(60)) {
    const { bytes } = issuing.certify({ peerId });
    const forged = Buffer.from(bytes);
    forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
    await say(forged, lies);
    await say(Buffer.concat([bytes, Buffer.alloc(2_000)]), lies);
    await say(bytes, truths);
    await delay(100);
    if (heard.filter((each) => truths.includes(each)).length >= 3) break;
  }
  assert.ok(heard.length >= 3, 'the truth is passed on');
  assert.deepEqual(
    heard.filter((each) => lies.includes(each)),
    [],
  );
  assert.deepEqual(reader.connected(), [middle.peerId], 'it comes through another');
  assert.deepEqual([...new Set(blamed)], [author.peerId]);
});
