import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runCli, startCli } from './run-cli.ts';

let data = '';
before(async () => {
  data = await mkdtemp(join(tmpdir(), 'bm-up-'));
});
after(() => rm(data, { recursive: true, force: true }));

const quiet = ['--gateway-listen', '127.0.0.1:0', '--swarm-listen', '/ip4/127.0.0.1/tcp/0', '--log-level', 'error'];
const up = () => startCli(['up', '--data', data, ...quiet, '--json']);

describe('bootmesh up', { timeout: 60_000 }, () => {
  it('is a fleet of one node without any configuration: publish, list, get, stop, and all of it once more alone', async () => {
    const bytes = randomBytes(2_000_000);
    const [kernel, out] = [join(data, 'kernel'), join(data, 'out')];
    await writeFile(kernel, bytes);
    const agent = up();
    await agent.waitFor(/"up":true.*\n/);

    const { peerId } = (await runCli('id', '--data', data, '--json')).json();
    assert.match(String(peerId), /^12D3KooW/);
    const files = ['--kernel', kernel, '--initramfs', kernel, '--rootfs', kernel];
    const published = await runCli('publish', '--channel', 'production', ...files, '--data', data, '--json');
    assert.equal(published.code, 0, published.stdout + published.stderr);
    const [status, busy] = await Promise.all([runCli('status', '--data', data, '--json'), up().done]);
    assert.partialDeepStrictEqual(status.json(), { peerId, agent: true, channels: [{ version: 1 }] });
    assert.equal(busy.code, 6, busy.stdout);
    assert.equal((await runCli('get', 'production', '-o', out, '--data', data)).code, 0);
    assert.ok((await readFile(out)).equals(bytes));

    agent.child.kill('SIGTERM');
    const ended = await agent.done;
    assert.deepEqual([ended.code, ended.json()['up']], [0, false], ended.stderr);
    assert.ok(!(await readdir(data)).includes('agent.sock'));

    const alone = await runCli('status', '--data', data, '--json');
    assert.partialDeepStrictEqual(alone.json(), { peerId, agent: false, channels: [{ version: 1 }] });
    await rm(out);
    assert.equal((await runCli('get', 'production:kernel', '-o', out, '--data', data)).code, 0);
    assert.ok((await readFile(out)).equals(bytes));
    assert.deepEqual((await runCli('verify', '--data', data, '--json')).json()['damaged'], []);
    const missing = await runCli('get', 'production:flist', '-o', out, '--data', data);
    assert.deepEqual([missing.code, missing.stdout], [3, '']);
  });

  it('keeps compiled code for its next start as soon as it is up, whatever its end', async () => {
    const code = join(data, 'code');
    const agent = startCli(['up', '--data', data, ...quiet, '--json'], { env: { NODE_COMPILE_CACHE: code } });
    await agent.waitFor(/"up":true.*\n/);
    agent.child.kill('SIGKILL');
    await agent.done;
    const [version = ''] = await readdir(code);
    assert.ok((await readdir(join(code, version))).length > 100);
  });

  it('stops at the first Ctrl-C, and does not wait for anybody at the second', async () => {
    const { child, done, waitFor } = startCli(['up', '--data', data, ...quiet, '--log-level', 'info']);
    await waitFor(/http:\/\/127\.0\.0\.1:\d+\n/);
    // A request that never ends keeps the gateway waiting for as long as its patience lasts.
    const { addresses } = (await runCli('status', '--data', data, '--json')).json() as { addresses: string[] };
    const { port, hostname } = new URL(addresses.find((each) => each.startsWith('http:')) ?? '');
    const client = connect(Number(port), hostname).on('error', () => {});
    client.write('GET / HTTP/1.1\r\n');
    await once(client, 'connect');
    await runCli('status', '--data', data);
    child.kill('SIGINT');
    await waitFor(/agent stops/);
    child.kill('SIGINT');
    assert.equal((await done).code, 130);
  });
});

describe('the launcher', () => {
  const old = (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((directory) => join(directory, 'node'))
    .find((node) => major(node) >= 20 && major(node) < 26);

  it('becomes Node 26 when an older one starts it: arguments, exit code, signals', {
    skip: !old && 'no older Node here',
  }, async () => {
    const node = old ?? '';
    const wrong = await startCli(['status', '--jsno'], { node }).done;
    assert.deepEqual([wrong.code, /unknown option/.test(wrong.stderr)], [2, true]);
    const agent = startCli(['up', '--data', join(data, 'old'), ...quiet, '--json'], { node });
    await agent.waitFor(/"up":true/);
    agent.child.kill('SIGTERM');
    assert.deepEqual([(await agent.done).code, (await agent.done).signal], [0, null]);
  });

  it('is executable and needs nothing but Node', () => {
    const read = (name: string) => readFileSync(new URL(`../../src/launch/${name}`, import.meta.url), 'utf8');
    assert.ok(read('launch.js').startsWith('#!/usr/bin/env node\n'));
    const imports = (text: string) => [...text.matchAll(/ from '([^']+)'/g)].map(([, from]) => from ?? '');
    const foreign = imports(read('launch.js')).filter((from) => !from.startsWith('node:'));
    assert.deepEqual(foreign, ['./agent-process.js']);
    assert.deepEqual(imports(read('agent-process.js')), []);
  });
});

function major(node: string): number {
  try {
    return Number(/^v(\d+)/.exec(execFileSync(node, ['--version'], { encoding: 'utf8' }))?.[1]);
  } catch {
    return 0;
  }
}
