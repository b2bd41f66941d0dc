import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { CourierNews, MemberLine, PendingLine, StatusResult } from '../../src/admin/results.ts';
import { missingRequirements } from '../../src/lab/requirements.ts';
import { Machines } from './machines.ts';

const missing = await missingRequirements();
const skip = missing.length > 0 && missing.join('; ');
let machines: Machines;

before(async () => {
  if (!skip) machines = await Machines.open('m', ['first', 'second', 'third', 'stranger', 'fourth']);
});
after(() => machines?.[Symbol.asyncDispose]());

describe('membership by certificate', { skip, timeout: 240_000 }, () => {
  it('a second machine joins with the three commands of README', async () => {
    await machines.up('first');
    const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
    const block = /<!-- join -->\n```sh\n([^`]*)```/.exec(readme)?.[1] ?? '';
    const [invite = [], joinLine = [], ...rest] = block
      .trim()
      .split('\n')
      .map((line) => line.split(' ').slice(1));
    assert.equal(rest.length, 1);
    const printed = (await machines.run('first', ...invite)).stdout.trim().split(' ').slice(1);
    assert.deepEqual([printed[0], printed[1]?.slice(0, 4)], [joinLine[0], joinLine[1]?.slice(0, 4)]);
    const joined = await machines.run('second', ...printed, '--name', 'second');
    assert.equal(joined.code, 0, joined.stderr);
    await machines.up('second', rest[0]);
    await machines.untilPeers('second', [await nameOfFirst()]);
  });

  it('a token lets in one machine, for as long as it says, and each refusal says what to do', async () => {
    const short = await machines.invite('first', { seconds: 3 });
    const shortUntil = performance.now() + 4_000;
    const token = await machines.invite('first', { name: 'third' });
    const joined = await machines.run('third', 'join', token, '--json');
    assert.partialDeepStrictEqual(joined.json(), { name: 'third', site: 'default' });
    await machines.up('third');
    await machines.untilPeers('third', [await nameOfFirst(), 'second'].toSorted());

    const refusals: readonly (readonly [string, string, number, RegExp])[] = [
      ['stranger', token, 4, /used already, by 12D3KooW\w+; .*ask for a new one/],
      ['stranger', `${token.slice(0, -3)}`, 2, /copy it again/],
      ['second', await machines.invite('first'), 6, /an agent is running on .*: stop it/],
    ];
    for (const [name, text, code, message] of refusals) {
      const refused = await machines.run(name, 'join', text);
      assert.deepEqual([refused.code, refused.stdout], [code, '']);
      assert.match(refused.stderr, message);
    }
    // A fleet of its own, of which the third is no member.
    await machines.up('stranger');
    const other = await machines.invite('stranger');
    await machines.down('third');
    const refused = await machines.run('third', 'join', other);
    assert.equal(refused.code, 4);
    assert.match(refused.stderr, /belongs to fleet alone already: to leave it, move .* away/);
    await machines.down('stranger');
    await machines.up('third');
    await delay(Math.max(0, shortUntil - performance.now()));
    assert.match((await machines.run('stranger', 'join', short)).stderr, /time was over at 20.*: ask for a new one/);
    assert.match(
      (await machines.run('stranger', 'join', other, '--wait', '1s')).stderr,
      /no door answers at .*10\.77\.9\.4.*: is an agent/,
    );
  });

  it('members find each other and exchange chunks when the one that admitted them is off', async () => {
    const bytes = randomBytes(300_000);
    const file = join(machines.folder, 'kernel');
    await writeFile(file, bytes);
    const files = ['--kernel', file, '--initramfs', file, '--channel', 'production'];
    assert.equal((await machines.run('first', 'publish', ...files)).code, 0);
    assert.equal(
      (await machines.run('second', 'get', 'production:kernel', '-o', join(machines.folder, 'got'))).code,
      0,
    );
    await Promise.all((['first', 'second', 'third'] as const).map((name) => machines.down(name)));
    await Promise.all((['second', 'third'] as const).map((name) => machines.up(name)));
    await machines.untilPeers('third', ['second']);
    const got = await machines.run('third', 'get', 'production:kernel', '-o', join(machines.folder, 'got'));
    assert.equal(got.code, 0, got.stderr);
    assert.ok((await readFile(join(machines.folder, 'got'))).equals(bytes));
  });

  it('one that is revoked loses all connections within seconds, hears nothing more, and stays out', async () => {
    await machines.up('first');
    await machines.untilPeers('second', [await nameOfFirst(), 'third'].toSorted());
    const revoked = await machines.run('first', 'fleet', 'revoke', 'third', '--why', 'a test', '--json');
    assert.equal(revoked.json()['state'], 'revoked', revoked.stderr);
    const [ms] = await Promise.all([
      machines.untilPeers('second', [await nameOfFirst()]),
      machines.untilPeers('third', []),
    ]);
    assert.ok(ms < 5_000, `${ms} ms`);
    const members = await machines.members('second');
    assert.deepEqual(
      members.map(({ name, state }) => `${name} ${state}`).filter((line) => line.startsWith('third')),
      ['third revoked'],
    );
    const { revoked: why } = await untilRevoked('third');
    assert.partialDeepStrictEqual(why, { why: 'a test' });
    const shown = await machines.run('third', 'status');
    assert.match(shown.stdout, /^REVOKED .*\(a test\); to join again, .*move identity\.key away/m);
    await machines.down('third');
    const again = await machines.run('third', 'join', await machines.invite('first'));
    assert.equal(again.code, 4);
    assert.match(again.stderr, /was revoked; .*move its identity\.key away/);
    await machines.up('third');
    await delay(2_000);
    assert.deepEqual(await machines.peersOf('third'), []);
    assert.deepEqual(await machines.peersOf('second'), [await nameOfFirst()]);
    await Promise.all((['first', 'second', 'third'] as const).map((name) => machines.down(name)));
  });

  it('a revocation that a person carried counts as one that came by wire', async () => {
    await machines.up('first');
    await machines.join('fourth', 'first');
    await machines.down('fourth');
    await machines.json('first', 'fleet', 'revoke', 'fourth');
    const file = join(machines.folder, 'courier');
    await machines.json('first', 'fleet', 'courier', 'export', '-o', file);
    await machines.down('first');
    await Promise.all(['second', 'fourth'].map((name) => machines.up(name)));
    await machines.untilPeers('second', ['fourth']);
    const news = await machines.json<CourierNews>('second', 'fleet', 'courier', 'import', file);
    assert.deepEqual([news.news > 0, news.refused], [true, 0]);
    await machines.untilPeers('second', []);
    await untilRevoked('fourth');
    await machines.down('second');
    await machines.up('first');
    await machines.json('second', 'join', await machines.invite('first'));
    await machines.down('first');
    await machines.up('second');
    const members = await machines.members('second');
    const states = members.flatMap(({ name, state }) => (['third', 'fourth'].includes(name) ? [state] : []));
    assert.deepEqual(states, ['revoked', 'revoked'], 'who joins again forgets nothing');
    const again = await machines.json<CourierNews>('second', 'fleet', 'courier', 'import', file);
    assert.deepEqual(again, { metadata: false, news: 0, refused: 0 });
    assert.equal((await machines.run('second', 'fleet', 'courier', 'import', '/etc/hosts')).code, 2);
    await Promise.all(['second', 'fourth'].map((name) => machines.down(name)));
  });

  it('a machine whose clock is behind what it knows to be over says so, and judges by that', async () => {
    const floor = Math.floor(Date.now() / 1000 + 100 * 86_400) * 1000;
    await writeFile(join(machines.folder, 'second/fleet/clock.json'), JSON.stringify({ format: 1, floor }));
    const { clock } = await machines.json<StatusResult>('second', 'status');
    assert.equal(clock?.fault, 'behind');
    assert.ok(Date.parse(clock.signed) - floor < 60_000);
    const { members } = await machines.json<{ members: MemberLine[] }>('second', 'fleet', 'ls');
    assert.deepEqual(new Set(members.map(({ state }) => state)), new Set(['expired', 'revoked']));
  });

  it('without a token a machine is approved by an operator, or by the list: then with new keys each time', async () => {
    const keys = join(machines.folder, 'first', 'fleet-keys');
    const config = join(machines.folder, 'first.yaml');
    await writeFile(config, 'door: { requests: true }\n');
    await machines.up('first', ['up', '--config', config]);
    const root = join(keys, 'root.json');
    const asking = machines.start('stranger', 'join', '--root', root, '--name', 'asker', '--wait', '60s', '--json');
    let pending: readonly PendingLine[] = [];
    while (pending.length === 0)
      ({ pending } = await machines.json<{ pending: PendingLine[] }>('first', 'fleet', 'pending'));
    assert.partialDeepStrictEqual(pending, [{ name: 'asker' }]);
    const approved = await machines.json<PendingLine>('first', 'fleet', 'approve', 'asker', '--name', 'approved');
    const joined = await asking.done;
    assert.partialDeepStrictEqual(joined.json(), { name: 'approved', peerId: approved.peerId });

    const { stdout } = await machines.namespace('stranger').run(['cat', '/sys/class/net/eth0/address']);
    const machine = `mac:${stdout.trim()}`;
    assert.ok(approved.machine.includes(machine));
    await machines.json('first', 'fleet', 'allow', machine, '--site', 'default', '--name', 'diskless', '--keys', keys);
    // It has nothing of before.
    await rm(join(machines.folder, 'stranger'), { recursive: true });
    const again = await machines.json<{ name: string; peerId: string }>('stranger', 'join', '--root', root);
    assert.equal(again.name, 'diskless');
    assert.notEqual(again.peerId, approved.peerId);
    await machines.up('stranger');
    await machines.untilPeers('stranger', [await nameOfFirst()]);
    await Promise.all(['first', 'stranger'].map((name) => machines.down(name)));
  });
});

/** Whom it dials tells it. */
async function untilRevoked(name: string): Promise<StatusResult> {
  const until = performance.now() + 10_000;
  for (;;) {
    const status = await machines.json<StatusResult>(name, 'status');
    if (status.revoked !== undefined) return status;
    assert.ok(performance.now() < until, `nobody told ${name}`);
  }
}

async function nameOfFirst(): Promise<string> {
  return (await machines.json<{ node: string }>('first', 'status')).node;
}
