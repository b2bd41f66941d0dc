import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Agent, get as httpGet, type IncomingMessage, type RequestOptions } from 'node:http';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { chunkCid, DAG_PB } from '../../src/content/chunk.ts';
import { artifactRoutes } from '../../src/gateway/artifact-route.ts';
import { Gateway } from '../../src/gateway/gateway.ts';
import { createMetrics } from '../../src/observe/metrics.ts';
import { MemoryArtifacts } from '../fakes/memory-artifacts.ts';
import { RecordedLog } from '../fakes/recorded-log.ts';

const log = new RecordedLog();
const metrics = createMetrics();
const artifacts = new MemoryArtifacts(7_001);
const bytes = randomBytes(100_000);
const cid = artifacts.add(bytes);
const empty = artifacts.add(new Uint8Array());
const agent = new Agent({ keepAlive: true, maxSockets: 4 });

let gateway: Gateway;
let base = '';
before(async () => {
  const routes = artifactRoutes({ artifacts, log, metrics }, { stallMs: 300, openMs: 200 });
  gateway = await Gateway.open({ routes, log, metrics }, { listen: ['127.0.0.1:0', '[::1]:0'], closeMs: 100 });
  base = gateway.addresses[0] ?? '';
});
after(async () => {
  agent.destroy();
  await gateway.close();
});

async function ask(path: string, options: RequestOptions = {}) {
  const asked = httpGet(base, { path, agent, ...options });
  const [answer] = (await once(asked, 'response')) as [IncomingMessage];
  const body = Buffer.concat(await answer.toArray());
  return { status: answer.statusCode, headers: answer.headers, body };
}

/** A source that the test feeds, piece by piece. */
function fed(size: number) {
  const pieces: Uint8Array[] = [];
  let wake = Promise.withResolvers<void>();
  let failure: Error | undefined;
  const aborted = Promise.withResolvers<void>();
  const read = async function* ({ signal }: { signal: AbortSignal }) {
    signal.addEventListener('abort', () => {
      aborted.resolve();
      wake.resolve();
    });
    for (;;) {
      for (let piece = pieces.shift(); piece; piece = pieces.shift()) yield piece;
      if (failure) throw failure;
      signal.throwIfAborted();
      await wake.promise;
      wake = Promise.withResolvers();
    }
  };
  const name = artifacts.addSource(chunkCid(randomBytes(8), DAG_PB), size, read);
  return {
    path: `/artifact/${name}`,
    aborted: aborted.promise,
    push: (piece: Uint8Array) => {
      pieces.push(piece);
      wake.resolve();
    },
    fail: (error: Error) => {
      failure = error;
      wake.resolve();
    },
  };
}

async function lineOf(sentence: string, name: string) {
  for (;;) {
    const line = log.lines.find((each) => each.sentence === sentence && name.endsWith(String(each['cid'])));
    if (line) return line;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('GET /artifact/<cid>', () => {
  it('gives the bytes that Buffer.subarray gives, for any range', async () => {
    const position = fc.oneof(fc.nat(bytes.length + 10), fc.nat(20));
    const range = fc.oneof(
      fc.record({ first: position, last: position }),
      fc.record({ first: position }),
      fc.record({ last: position }),
    ) as fc.Arbitrary<{ first?: number; last?: number }>;
    await fc.assert(
      fc.asyncProperty(range, async ({ first, last }) => {
        const { status, headers, body } = await ask(`/artifact/${cid}`, {
          headers: { Range: `bytes=${first ?? ''}-${last ?? ''}` },
        });
        const size = bytes.length;
        const [start, end] =
          first === undefined ? [Math.max(0, size - (last ?? 0)), size] : [first, Math.min(size, (last ?? size) + 1)];
        assert.equal(headers['content-length'], String(body.length));
        if (first !== undefined && last !== undefined && last < first) {
          assert.equal(status, 200);
          assert.ok(body.equals(bytes));
        } else if (start >= size || start === end) {
          assert.equal(status, 416);
          assert.equal(headers['content-range'], `bytes */${size}`);
        } else {
          assert.equal(status, 206);
          assert.equal(headers['content-range'], `bytes ${start}-${end - 1}/${size}`);
          assert.ok(body.equals(bytes.subarray(start, end)));
        }
      }),
      { numRuns: 400 },
    );
  });

  it('names the bytes by their CID, and answers HEAD, conditions and several ranges as RFC 9110 says', async () => {
    const etag = `"${cid}"`;
    const path = `/artifact/${cid}`;
    const whole = await ask(path);
    assert.equal(whole.status, 200);
    assert.equal(whole.headers.etag, etag);
    assert.equal(whole.headers['accept-ranges'], 'bytes');
    assert.ok(whole.body.equals(bytes));
    const head = await ask(path, { method: 'HEAD', headers: { Range: 'bytes=0-1' } });
    assert.deepEqual([head.status, head.headers['content-length'], head.body.length], [200, '100000', 0]);
    assert.equal((await ask(path, { headers: { 'If-None-Match': etag } })).status, 304);
    assert.equal((await ask(path, { headers: { 'If-Match': '"other"' } })).status, 412);
    assert.equal((await ask(path, { headers: { Range: 'bytes=0-1', 'If-Range': etag } })).status, 206);
    assert.equal((await ask(path, { headers: { Range: 'bytes=0-1', 'If-Range': '"other"' } })).status, 200);
    assert.equal((await ask(path, { headers: { Range: 'bytes=0-1,5-6' } })).status, 200);
    const nothing = await ask(`/artifact/${empty}`);
    assert.deepEqual([nothing.status, nothing.headers['content-length']], [200, '0']);
  });

  it('is what curl resumes from, over IPv6 as well', async () => {
    const curl = (...args: string[]) =>
      promisify(execFile)('curl', ['--silent', '--show-error', '--fail', '--globoff', ...args], { encoding: 'buffer' });
    const six = gateway.addresses[1] ?? '';
    assert.match(six, /^http:\/\/\[::1\]:\d+$/);
    assert.ok((await curl(`${six}/artifact/${cid}`)).stdout.equals(bytes));
    assert.ok((await curl('--continue-at', '99000', `${base}/artifact/${cid}`)).stdout.equals(bytes.subarray(99_000)));
    assert.ok((await curl('--range', '-5', `${six}/artifact/${cid}`)).stdout.equals(bytes.subarray(-5)));
  });

  it('says what is not published, and what is no name', async () => {
    const stranger = chunkCid(randomBytes(8), DAG_PB);
    const unknown = await ask(`/artifact/${stranger}`);
    assert.equal(unknown.status, 404);
    assert.deepEqual(JSON.parse(unknown.body.toString()), {
      error: 'not_found',
      detail: `artifact ${stranger} is not published here`,
    });
    for (const name of ['x', 'Qm', `${cid}x`, cid.toString().toUpperCase(), '%2e%2e', `${cid}%00`]) {
      const { status, body } = await ask(`/artifact/${name}`);
      assert.equal(status, 400, name);
      assert.ok(JSON.parse(body.toString()).error);
    }
  });

  it('answers 503 with Retry-After when the manifest cannot be had in time', async () => {
    const failing = artifactRoutes(
      {
        artifacts: {
          open: (_cid, { signal }) => new Promise((_, no) => signal.addEventListener('abort', () => no(signal.reason))),
        },
        log,
        metrics,
      },
      { openMs: 20 },
    );
    await using other = await Gateway.open({ routes: failing, log, metrics }, { listen: ['127.0.0.1:0'] });
    const answer = await fetch(`${other.addresses[0]}/artifact/${cid}`);
    assert.equal(answer.status, 503);
    assert.equal(answer.headers.get('retry-after'), '5');
    assert.equal(((await answer.json()) as { error: string }).error, 'not_yet');
  });

  it('waits for bytes that are still arriving, and streams them as they come', async () => {
    const source = fed(10);
    const asked = httpGet(`${base}${source.path}`, { agent: false });
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    const arriving = answer.iterator();
    for (const piece of ['01', '234', '56789']) {
      source.push(Buffer.from(piece));
      assert.equal(String((await arriving.next()).value), piece);
    }
    assert.ok((await arriving.next()).done);
    const line = await lineOf('artifact served', source.path);
    assert.deepEqual([line['client'], line['range'], line['bytes']], ['127.0.0.1', '0-10', 10]);
    assert.equal(typeof line['ms'], 'number');
  });

  for (const [what, spoil] of [
    ['fails', (source: ReturnType<typeof fed>) => source.fail(new Error('disk on fire'))],
    ['stalls', () => {}],
    ['gives more than it promised', (source: ReturnType<typeof fed>) => source.push(Buffer.alloc(200_000))],
  ] as const) {
    it(`breaks the connection when the source ${what}, so that no short answer looks whole`, async () => {
      const source = fed(100_000);
      const asked = httpGet(`${base}${source.path}`, { agent: false });
      const [answer] = (await once(asked, 'response')) as [IncomingMessage];
      assert.equal(answer.headers['content-length'], '100000');
      source.push(Buffer.alloc(50_000));
      answer.once('data', () => spoil(source));
      await assert.rejects(answer.toArray(), { code: 'ECONNRESET' });
      await lineOf('artifact transfer failed', source.path);
    });
  }

  it('ends the read of a client that goes away, and no other', async () => {
    const source = fed(10);
    const [leaves, stays] = [0, 1].map(() => httpGet(`${base}${source.path}`, { agent: false }).on('error', () => {}));
    const reading = artifacts.reading;
    await Promise.all([once(leaves ?? assert.fail(), 'response'), once(stays ?? assert.fail(), 'response')]);
    const other = ask(`/artifact/${cid}`);
    leaves?.destroy();
    await source.aborted;
    await lineOf('artifact reader has gone', source.path);
    assert.ok((await other).body.equals(bytes));
    assert.ok(artifacts.reading >= reading);
    stays?.destroy();
  });

  it('holds a few hundred kilobytes, not the artifact, for a reader that does not read, and lets go of it', async () => {
    let produced = 0;
    const size = 1 << 30;
    const name = artifacts.addSource(chunkCid(randomBytes(8), DAG_PB), size, async function* () {
      const piece = Buffer.alloc(1 << 20);
      for (; produced < size; produced += piece.length) yield piece;
    });
    const asked = httpGet(`${base}/artifact/${name}`, { agent: false }).on('error', () => {});
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    answer.pause();
    await lineOf('artifact transfer failed', `/artifact/${name}`);
    // What the kernel's two socket buffers take on loopback, and one piece.
    assert.ok(produced < 24 << 20, `${produced} bytes were read for it`);
    answer.destroy();
  });

  it('counts bytes by client, and only so many clients', async () => {
    assert.match(await metrics.text(), /bootmesh_gateway_bytes_total\{client="127\.0\.0\.1"\} \d{6,}/);
    assert.match(await metrics.text(), /bootmesh_gateway_requests_total\{route="\/artifact\/:cid",status="206"\} \d+/);
  });
});

describe('GET /artifact/<cid>/pieces', () => {
  it('is the sha256 of every 4 MiB, one a line, the last of what is left', async () => {
    const large = randomBytes(4 * 1024 * 1024 * 2 + 12_345);
    const { body, status } = await ask(`/artifact/${artifacts.add(large)}/pieces`);
    const expected = [0, 1, 2].map((index) => {
      const piece = large.subarray(index * 4194304, (index + 1) * 4194304);
      return `${createHash('sha256').update(piece).digest('hex')}\n`;
    });
    assert.equal(status, 200);
    assert.equal(body.toString(), expected.join(''));
    assert.equal((await ask(`/artifact/${empty}/pieces`)).body.length, 0);
  });

  it('reads the artifact once for all who ask at the same time, and not again', async () => {
    let reads = 0;
    const start = Promise.withResolvers<void>();
    const name = artifacts.addSource(chunkCid(randomBytes(8), DAG_PB), 3, async function* () {
      reads += 1;
      await start.promise;
      yield Buffer.from('abc');
    });
    const asked = Array.from({ length: 3 }, () => ask(`/artifact/${name}/pieces`));
    setTimeout(() => start.resolve(), 50);
    const bodies = (await Promise.all(asked)).map(({ body }) => body.toString());
    await ask(`/artifact/${name}/pieces`);
    assert.equal(new Set(bodies).size, 1);
    assert.equal(reads, 1);
  });

  it('answers 503 when the artifact is not complete', async () => {
    const name = artifacts.addSource(chunkCid(randomBytes(8), DAG_PB), 3, async function* () {
      yield Buffer.from('a');
      throw new Error('nobody has the rest');
    });
    assert.equal((await ask(`/artifact/${name}/pieces`)).status, 503);
  });
});
