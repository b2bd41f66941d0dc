import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { connectAdmin } from '../../src/admin/admin-client.ts';
import { adminSocket, serveAdmin } from '../../src/admin/admin-route.ts';
import { OperationError, type Operations, type Progress } from '../../src/admin/operations.ts';
import { silentLog } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { fakeOperations } from '../fakes/fake-operations.ts';

let data = '';
before(async () => {
  data = await mkdtemp(join(tmpdir(), 'bm-admin-'));
});
after(() => rm(data, { recursive: true }));

const serve = (overrides: Partial<Operations>) =>
  serveAdmin({ operations: fakeOperations(overrides), log: silentLog, metrics: createMetrics() }, data);
const client = async () => (await connectAdmin(data)) ?? assert.fail('no agent');
const signal = new AbortController().signal;

describe('the admin socket', () => {
  it('is its owner’s alone, is not taken from a living agent, is taken from a dead one, and goes with the agent', async () => {
    assert.equal(await connectAdmin(data), undefined);
    await writeFile(adminSocket(data), 'left behind');
    {
      await using _agent = await serve({});
      const { mode } = await stat(adminSocket(data));
      assert.equal(mode & 0o777, 0o600);
      assert.equal(mode & 0o170000, 0o140000);
      await assert.rejects(serve({}), { code: 'LISTEN' });
      assert.equal((await (await client()).status({}, { signal })).site, 'edge');
    }
    await assert.rejects(stat(adminSocket(data)), { code: 'ENOENT' });
    assert.equal(await connectAdmin(data), undefined);
  });

  it('carries every operation’s input and result', async () => {
    await using _agent = await serve({});
    const [near, far] = [fakeOperations(), await client()];
    const input = { channel: 'production', kernel: '/k', initramfs: '/i', cmdline: 'a="b" \u00e9' };
    assert.deepEqual(await far.publish(input, { signal }), await near.publish(input, { signal }));
    for (const name of ['status', 'peers', 'ls', 'gc', 'verify'] as const) {
      assert.deepEqual(await far[name]({}, { signal }), await near[name]({}, { signal }), name);
    }
    const pin = { cid: 'bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi', name: 'mine' };
    assert.deepEqual(await far.pin(pin, { signal }), await near.pin(pin, { signal }));
    assert.deepEqual(await far.unpin({ name: 'mine' }, { signal }), await near.unpin({ name: 'mine' }, { signal }));
  });

  it('carries an artifact byte for byte, at the pace of its reader, with progress in between', async () => {
    const bytes = randomBytes(9_000_000);
    let ahead = 0;
    await using _agent = await serve({
      get: async (_input, { write, onProgress }) => {
        for (let at = 0; at < bytes.length; at += 700_001) {
          await write(bytes.subarray(at, at + 700_001));
          ahead = at;
          onProgress?.({ phase: 'fetch', bytes: at, total: bytes.length });
        }
        return { cid: 'c', size: bytes.length, sha256: 's' };
      },
    });
    const got = createHash('sha256');
    const told: Progress[] = [];
    const first = Promise.withResolvers<void>();
    let pieces = 0;
    const write = async (piece: Uint8Array) => {
      got.update(piece);
      if (pieces++ === 0) await first.promise;
    };
    const options = { signal, write, onProgress: (progress: Progress) => told.push(progress) };
    const done = (await client()).get({ name: 'production' }, options);
    // A reader that has taken one piece holds the agent up long before the end.
    await new Promise((resolve) => setTimeout(resolve, 150));
    assert.ok(ahead < 5_000_000, `${ahead} bytes were sent to a reader that does not read`);
    first.resolve();
    assert.equal((await done).size, bytes.length);
    assert.equal(got.digest('hex'), createHash('sha256').update(bytes).digest('hex'));
    assert.equal(told[0]?.phase, 'fetch');
  });

  it('carries refusals with their code, and makes rooms’ errors speak to operators', async () => {
    const corrupt = Object.assign(new Error('bytes from edge-2 do not match'), { code: 'CORRUPT_CHUNK' });
    await using _agent = await serve({
      pin: () => Promise.reject(new OperationError('NOT_FOUND', 'no artifact bafy… here')),
      verify: () => Promise.reject(corrupt),
      gc: () => Promise.reject(new Error('disk on fire')),
    });
    const far = await client();
    const cid = 'bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi';
    await assert.rejects(far.pin({ cid }, { signal }), { code: 'NOT_FOUND', message: 'no artifact bafy… here' });
    await assert.rejects(far.verify({}, { signal }), { code: 'REFUSED', message: 'bytes from edge-2 do not match' });
    await assert.rejects(far.gc({}, { signal }), { code: 'FAILED', message: 'disk on fire' });
    await assert.rejects(far.pin({ cid: 'x' }, { signal }), { code: 'USAGE', message: /^cid: is a CID in base32/ });
    const relative = { channel: 'c', kernel: 'vmlinuz', initramfs: '/i', cmdline: '' };
    await assert.rejects(far.publish(relative, { signal }), { code: 'USAGE', message: 'kernel: is an absolute path' });
  });

  it('ends an operation whose client has hung up, and a client whose agent has died', async () => {
    const started = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let calls = 0;
    const ended = Promise.withResolvers<unknown>();
    const agent = await serve({
      gc: (_input, { signal }) => {
        started[calls++]?.resolve();
        const { promise, reject } = Promise.withResolvers<never>();
        signal.addEventListener('abort', () => reject(signal.reason));
        promise.catch(ended.resolve);
        return promise;
      },
    });
    const stop = new AbortController();
    const asked = (await client()).gc({}, { signal: stop.signal });
    await started[0]?.promise;
    stop.abort(new Error('interrupted'));
    await assert.rejects(asked, { message: 'interrupted' });
    assert.ok((await ended.promise) instanceof Error);

    const left = (await client()).gc({}, { signal });
    const unreachable = assert.rejects(left, { code: 'UNREACHABLE' });
    await started[1]?.promise;
    await agent.close();
    await unreachable;
  });

  it('answers nothing but its operations', async () => {
    await using _agent = await serve({});
    const post = async (path: string, body: string, method = 'POST') => {
      const asked = request({ socketPath: adminSocket(data), method, path, agent: false }).end(body);
      const [answer] = await once(asked, 'response');
      await answer.toArray();
      return answer.statusCode;
    };
    assert.equal(await post('/operations/toString', '{}'), 404);
    assert.equal(await post('/operations/gc', '{'), 400);
    assert.equal(await post('/operations/gc', '{"extra":1}'), 400);
    assert.equal(await post('/operations/gc', '', 'GET'), 405);
    assert.equal(await post('/operations/gc', `"${'x'.repeat(70_000)}"`), 413);
  });
});
