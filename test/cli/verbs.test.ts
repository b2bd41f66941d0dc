import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { serveAdmin } from '../../src/admin/admin-route.ts';
import { type OperationCode, OperationError, type Operations } from '../../src/admin/operations.ts';
import { silentLog } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { fakeOperations } from '../fakes/fake-operations.ts';
import { runCli, startCli } from './run-cli.ts';

const cid = 'bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi';
const signal = new AbortController().signal;
let data = '';
before(async () => {
  data = await mkdtemp(join(tmpdir(), 'bm-cli-'));
});
after(() => rm(data, { recursive: true, force: true }));

const serve = (overrides: Partial<Operations> = {}) =>
  serveAdmin({ operations: fakeOperations(overrides), log: silentLog, metrics: createMetrics() }, data);

describe('a verb with an agent', () => {
  it('prints what the agent says: one JSON object under --json, words otherwise', { timeout: 60_000 }, async () => {
    await using _agent = await serve();
    const fake = fakeOperations();
    const [kernel, output, courier] = [join(data, 'k'), join(data, 'out'), join(data, 'courier')];
    await writeFile(kernel, 'k');
    const publish = ['publish', '--channel', 'testing', '--kernel', kernel, '--initramfs', kernel, '--cmdline', 'a b'];
    const input = { channel: 'testing', kernel, initramfs: kernel, cmdline: 'a b' };
    const cases: [string[], object, RegExp][] = [
      [['status'], await fake.status({}, { signal }), /^channel {2}production 7: 50 % here$/m],
      [['peers'], await fake.peers({}, { signal }), /^edge-2 .* edge {2}connected {2}1 B in, 2 B out$/m],
      [['ls'], await fake.ls({}, { signal }), /^production {2}version 7, 100 % here$/m],
      [['gc'], await fake.gc({}, { signal }), /^1 chunks of 2 B dropped, 3 B freed$/m],
      [['verify'], await fake.verify({}, { signal }), /^2 chunks of 1\.0 kB read, 0 damaged$/m],
      [['pin', cid, '--name', 'mine'], { name: 'mine', cid, held: 1 }, /is pinned as mine$/m],
      [['unpin', 'mine'], { name: 'mine', cid }, /no longer pinned as mine$/m],
      [publish, await fake.publish(input, { signal }), /^testing version 7: 3 B of distinct chunks$/m],
      [
        ['fleet', 'ls'],
        await fake.members({}, { signal }),
        /^edge-2 .* seed {2}fd00::2 {2}connected, until 2027-01-21$/m,
      ],
      [['fleet', 'show', 'edge-2'], await fake.members({}, { signal }), /^issuer {5}owner$/m],
      [['fleet', 'invite', '--qr'], { token: 'bm1.abc' }, /^bootmesh join bm1\.abc\n(?:[^▀\n]*▀){29}/],
      [['fleet', 'pending'], await fake.pending({}, { signal }), /^edge-3 .* mac:52:54:00:12:34:56$/m],
      [['fleet', 'approve', 'edge-3'], { name: 'edge-3' }, /is let in$/m],
      [['fleet', 'renew', 'edge-2', '--roles', '-'], { name: 'edge-2' }, /is a member until 2027/m],
      [['fleet', 'revoke', 'edge-2'], { state: 'revoked' }, /is no member any more$/m],
      [['fleet', 'courier', 'export', '-o', courier], { statements: 1 }, /1 statements$/m],
      [['fleet', 'courier', 'import', courier], { news: 2 }, /^2 statements were news; .* newer than ours was$/m],
      [['overlay', 'status'], { state: 'off' }, /^no overlay here/m],
      [['get', 'production', '-o', output], { output, size: 3, cid }, /^\/.*\/out {2}3 B {2}sha256 ba7816bf/m],
    ];
    for (const [args, expected, words] of cases) {
      const [plain, json] = await Promise.all([
        runCli(...args, '--data', data),
        runCli(...args, '--data', data, '--json'),
      ]);
      assert.equal(plain.code, 0, plain.stderr);
      assert.match(plain.stdout, words);
      assert.equal(json.code, 0, json.stderr);
      assert.equal(json.stderr, '');
      assert.partialDeepStrictEqual(json.json(), expected);
    }
    assert.equal(await readFile(output, 'utf8'), 'abc');
  });

  it('exits as the agent’s refusal says, and prints it where it belongs', { timeout: 60_000 }, async () => {
    const codes: [OperationCode, number][] = [
      ['FAILED', 1],
      ['USAGE', 2],
      ['NOT_FOUND', 3],
      ['REFUSED', 4],
      ['UNREACHABLE', 5],
      ['BUSY', 6],
    ];
    let next: OperationCode = 'FAILED';
    await using _agent = await serve({ gc: () => Promise.reject(new OperationError(next, `it is ${next}`)) });
    for (const [code, exit] of codes) {
      next = code;
      const [plain, json] = await Promise.all([runCli('gc', '--data', data), runCli('gc', '--data', data, '--json')]);
      assert.deepEqual([plain.code, plain.stdout, plain.stderr], [exit, '', `bootmesh: it is ${code}\n`]);
      assert.deepEqual(json.json(), { error: { code, message: `it is ${code}`, exit } });
    }
  });

  it('fails verify with 4 when there is damage, and names it', async () => {
    const damaged = [{ cid, file: '/store/segments/1', offset: 42 }];
    await using _agent = await serve({ verify: async () => ({ chunks: 2, bytes: 3, damaged }) });
    const { code, stdout } = await runCli('verify', '--data', data);
    assert.equal(code, 4);
    assert.match(stdout, new RegExp(`^damaged: ${cid} at /store/segments/1:42$`, 'm'));
  });

  it('leaves no file behind when a get fails, is interrupted, or brings other bytes than the agent says', async () => {
    const output = join(data, 'half');
    const started = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    let how: 'fails' | 'lies' | 'hangs' = 'fails';
    await using _agent = await serve({
      get: async (_input, { write, signal }) => {
        await write(Buffer.from('some'));
        if (how === 'fails') throw new OperationError('UNREACHABLE', 'nobody has the rest');
        if (how === 'lies') return { cid, size: 4, sha256: '00' };
        started.resolve();
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
        ended.resolve();
        throw signal.reason;
      },
    });
    const get = ['get', 'production', '-o', output, '--data', data];
    assert.equal((await runCli(...get)).code, 5);
    how = 'lies';
    assert.equal((await runCli(...get)).code, 4);
    how = 'hangs';
    const { child, done } = startCli(get);
    await started.promise;
    child.kill('SIGINT');
    assert.equal((await done).code, 130);
    await ended.promise;
    assert.deepEqual(
      (await readdir(data)).filter((name) => name.startsWith('half')),
      [],
    );
    assert.match(
      (await runCli('get', 'x', '-o', '/nonexistent/f', '--data', data)).stderr,
      /\/nonexistent\/f cannot be written/,
    );
  });

  it('reports progress of what takes long, on standard error and not under --json', async () => {
    await using _agent = await serve({
      gc: async (_input, { onProgress, signal }) => {
        for (let tick = 0; tick < 24 && !signal.aborted; tick++) {
          onProgress?.({ phase: 'compact', bytes: tick, total: 24 });
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
        return { evictedChunks: 0, evictedBytes: 0, freedBytes: 0 };
      },
    });
    const [plain, json] = await Promise.all([runCli('gc', '--data', data), runCli('gc', '--data', data, '--json')]);
    assert.match(plain.stderr, /^compact {3}\d+% {2}\d+ B of 24 B/m);
    assert.deepEqual([json.stderr, json.stdout.split('\n').length], ['', 2]);
  });
});

describe('a verb without agent and store', () => {
  it('says so with exit code 5, and what to do', async () => {
    const nowhere = join(data, 'nowhere');
    for (const verb of [['status'], ['verify'], ['get', 'production', '-o', join(data, 'x')]]) {
      const { code, stderr } = await runCli(...verb, '--data', nowhere);
      assert.equal(code, 5);
      assert.match(stderr, /no agent is running on .*nowhere, and it holds no store: start one with `bootmesh up/);
    }
    assert.deepEqual(
      (await readdir(data)).filter((name) => name === 'nowhere' || name === 'x'),
      [],
    );
  });

  it('is told where to look by BOOTMESH_DATA, a configuration file, or a flag, which wins', async () => {
    await using _agent = await serve();
    const config = join(data, 'agent.yaml');
    await writeFile(config, 'data: .\n');
    const peers = (args: string[], env: NodeJS.ProcessEnv = {}) => startCli(['peers', ...args], { env }).done;
    const codes = await Promise.all([
      peers([], { BOOTMESH_DATA: data }),
      peers([], { BOOTMESH_CONFIG: config }),
      peers(['--config', config]),
      peers(['--data', data], { BOOTMESH_DATA: '/nonexistent' }),
      peers(['--config', config], { BOOTMESH_DATA: '/nonexistent' }),
    ]);
    assert.deepEqual(
      codes.map(({ code }) => code),
      [0, 0, 0, 0, 5],
    );
  });

  it('names a file to publish that cannot be read', async () => {
    const args = ['--channel', 'production', '--kernel', '/nonexistent/k', '--initramfs', '/nonexistent/i'];
    const { code, stderr } = await runCli('publish', ...args, '--data', data);
    assert.equal(code, 3);
    assert.match(stderr, /--kernel \/nonexistent\/k cannot be read/);
  });
});
