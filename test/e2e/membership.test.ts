import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { MemberLine, PeerLine } from '../../src/admin/operations.ts';
import { connect, createNamespace } from '../../src/lab/namespace.ts';
import { missingRequirements } from '../../src/lab/requirements.ts';
import { type CliProcess, type CliRun, startCli } from '../cli/run-cli.ts';

const missing = await missingRequirements();
const skip = missing.length > 0 && missing.join('; ');
const NAMES = ['first', 'second', 'third', 'stranger'] as const;
type Name = (typeof NAMES)[number];
const PREFIX = `bm-m${process.pid}-`;

/** Four machines on one switch, each with a data directory: what a user has before the first command. */
const agents = new Map<Name, CliProcess>();
const stack = new AsyncDisposableStack();
let folder = '';

before(async () => {
  if (skip) return;
  folder = await mkdtemp(join(tmpdir(), 'bm-membership-'));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const hub = stack.use(await createNamespace(`${PREFIX}hub`));
  await hub.addBridge('br0');
  for (const [index, name] of NAMES.entries()) {
    const namespace = stack.use(await createNamespace(PREFIX + name));
    const addresses = [`10.77.9.${index + 1}/24`];
    await connect(
      { namespace, interface: 'eth0', addresses },
      { namespace: hub, interface: `p${index}`, bridge: 'br0' },
    );
  }
});
after(() => stack.disposeAsync());

function start(name: Name, ...args: readonly string[]): CliProcess {
  const env = {
    BOOTMESH_DATA: join(folder, name),
    BOOTMESH_LOG_LEVEL: 'warn',
    NODE_COMPILE_CACHE: join(folder, 'code'),
  };
  return startCli(args, { namespace: PREFIX + name, env });
}

async function run(name: Name, ...args: readonly string[]): Promise<CliRun> {
  return await start(name, ...args).done;
}

async function up(name: Name, ...args: readonly string[]): Promise<void> {
  const agent = start(name, ...(args.length > 0 ? args : ['up']));
  agents.set(name, agent);
  await agent.waitFor(/is up on/);
}

async function down(name: Name): Promise<void> {
  agents.get(name)?.child.kill('SIGTERM');
  await agents.get(name)?.done;
}

async function peersOf(name: Name): Promise<string[]> {
  const peers = (await run(name, 'peers', '--json')).json()['peers'] as PeerLine[];
  return peers.flatMap((peer) => (peer.connected ? (peer.name ?? peer.peerId) : [])).toSorted();
}

/** Milliseconds that it took. */
async function untilPeers(name: Name, expected: readonly string[]): Promise<number> {
  const from = performance.now();
  for (;;) {
    const peers = await peersOf(name);
    if (peers.join() === expected.join()) return performance.now() - from;
    assert.ok(performance.now() - from < 20_000, `${name} has ${peers}, and not ${expected}`);
    await delay(100);
  }
}

async function invitation(name: Name, ...args: readonly string[]): Promise<string> {
  const { stdout, stderr, code } = await run(name, 'fleet', 'invite', ...args);
  assert.equal(code, 0, stderr);
  return stdout.trim().split(' ').at(-1) ?? '';
}

describe('membership by certificate', { skip, timeout: 150_000 }, () => {
  it('a second machine joins with the three commands of README', async () => {
    await up('first');
    const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
    const block = /<!-- join -->\n```sh\n([^`]*)```/.exec(readme)?.[1] ?? '';
    const [invite = [], join = [], ...rest] = block
      .trim()
      .split('\n')
      .map((line) => line.split(' ').slice(1));
    assert.equal(rest.length, 1);
    const printed = (await run('first', ...invite)).stdout.trim().split(' ').slice(1);
    assert.deepEqual([printed[0], printed[1]?.slice(0, 4)], [join[0], join[1]?.slice(0, 4)]);
    const joined = await run('second', ...printed, '--name', 'second');
    assert.equal(joined.code, 0, joined.stderr);
    await up('second', ...(rest[0] ?? []));
    await untilPeers('second', [await nameOf('first')]);
  });

  it('a token lets in one machine, for as long as it says, and each refusal says what to do', async () => {
    const short = await invitation('first', '--for', '10s');
    const shortUntil = performance.now() + 11_000;
    const token = await invitation('first', '--name', 'third');
    const joined = await run('third', 'join', token, '--json');
    assert.partialDeepStrictEqual(joined.json(), { name: 'third', site: 'default' });
    await up('third');
    await untilPeers('third', [await nameOf('first'), 'second'].toSorted());

    const refusals: readonly (readonly [Name, string, number, RegExp])[] = [
      ['stranger', token, 4, /used already, by 12D3KooW\w+; .*ask for a new one/],
      ['stranger', `${token.slice(0, -3)}`, 4, /copy it again/],
      ['second', await invitation('first'), 6, /an agent is running on .*: stop it/],
    ];
    for (const [name, text, code, message] of refusals) {
      const refused = await run(name, 'join', text);
      assert.deepEqual([refused.code, refused.stdout], [code, '']);
      assert.match(refused.stderr, message);
    }
    // A fleet of its own, of which the third is no member.
    await up('stranger');
    const other = await invitation('stranger');
    await down('third');
    const refused = await run('third', 'join', other);
    assert.equal(refused.code, 4);
    assert.match(refused.stderr, /belongs to fleet alone already: to leave it, move .* away/);
    await down('stranger');
    await up('third');
    await delay(Math.max(0, shortUntil - performance.now()));
    assert.match((await run('stranger', 'join', short)).stderr, /time was over at 20.*: ask for a new one/);
    assert.match(
      (await run('stranger', 'join', other, '--wait', '1s')).stderr,
      /no door answers at .*10\.77\.9\.4.*: is the agent/,
    );
  });

  it('members find each other and exchange chunks when the one that admitted them is off', async () => {
    const bytes = randomBytes(300_000);
    const file = join(folder, 'kernel');
    await writeFile(file, bytes);
    const files = ['--kernel', file, '--initramfs', file, '--channel', 'production'];
    assert.equal((await run('first', 'publish', ...files)).code, 0);
    assert.equal((await run('second', 'get', 'production:kernel', '-o', join(folder, 'got'))).code, 0);
    await Promise.all((['first', 'second', 'third'] as const).map(down));
    await Promise.all((['second', 'third'] as const).map((name) => up(name)));
    await untilPeers('third', ['second']);
    const got = await run('third', 'get', 'production:kernel', '-o', join(folder, 'got'));
    assert.equal(got.code, 0, got.stderr);
    assert.ok((await readFile(join(folder, 'got'))).equals(bytes));
  });

  it('one that is revoked loses all connections within seconds, hears nothing more, and stays out', async () => {
    await up('first');
    await untilPeers('second', [await nameOf('first'), 'third'].toSorted());
    const revoked = await run('first', 'fleet', 'revoke', 'third', '--why', 'a test', '--json');
    assert.equal(revoked.json()['state'], 'revoked', revoked.stderr);
    const [ms] = await Promise.all([untilPeers('second', [await nameOf('first')]), untilPeers('third', [])]);
    assert.ok(ms < 5_000, `${ms} ms`);
    const { members } = (await run('second', 'fleet', 'ls', '--json')).json() as { members: MemberLine[] };
    assert.deepEqual(
      members.map(({ name, state }) => `${name} ${state}`).filter((line) => line.startsWith('third')),
      ['third revoked'],
    );
    await down('third');
    const again = await run('third', 'join', await invitation('first'));
    assert.equal(again.code, 4);
    assert.match(again.stderr, /was revoked; .*move its identity\.key away/);
    await up('third');
    await delay(2_000);
    assert.deepEqual(await peersOf('third'), []);
    assert.deepEqual(await peersOf('second'), [await nameOf('first')]);
    await Promise.all((['first', 'second', 'third'] as const).map(down));
  });
});

async function nameOf(name: Name): Promise<string> {
  return String((await run(name, 'status', '--json')).json()['node']);
}
