import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { silentLog } from '../../src/observe/log.ts';
import { Channels } from '../../src/release/channels.ts';
import type { VerifiedRelease } from '../../src/release/trusted-state.ts';
import { TestFleet } from '../fakes/release-fleet.ts';
import { Fleet } from '../swarm/fleet.ts';

const signal = AbortSignal.timeout(30_000);

function next(channels: Channels): Promise<VerifiedRelease> {
  const { promise, resolve, reject } = Promise.withResolvers<VerifiedRelease>();
  signal.addEventListener('abort', () => reject(signal.reason));
  channels.on('release:new', resolve);
  return promise;
}

test('a release reaches nodes over a real swarm, those that come later included', { timeout: 40_000 }, async () => {
  await using releases = await TestFleet.create();
  await using stack = new AsyncDisposableStack();
  const fleet = stack.use(new Fleet());
  const open = async (name: string) => {
    const { swarm } = await fleet.node();
    const deps = { network: swarm.documents, log: silentLog };
    const options = {
      directory: join(releases.directory, name),
      trustRoot: releases.keys.root,
      follow: ['production'],
    };
    return stack.use(await Channels.open(deps, options));
  };
  const [a, b] = [await open('a'), await open('b')];
  await releases.publish('one');
  await a.adopt(releases.repository, { signal });
  const arrived = b.current('production') ?? (await next(b));
  assert.equal(arrived.digest, a.current('production')?.digest);
  const c = await open('c');
  const late = c.current('production') ?? (await next(c));
  assert.equal(late.version, 1);
  // A second one by gossip, to all of them.
  await releases.publish('two');
  const all = Promise.all([b, c].map(next));
  await a.adopt(releases.repository, { signal });
  for (const { version } of await all) assert.equal(version, 2);
});
