import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { before, describe, it } from 'node:test';
import fc from 'fast-check';
import { Gateway, type GatewayOptions } from '../../src/gateway/gateway.ts';
import { Refusal } from '../../src/gateway/refusal.ts';
import type { Route } from '../../src/gateway/router.ts';
import { silentLog } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';

const held: { release: () => void; aborted: boolean }[] = [];
let handled = Promise.withResolvers<void>();
const routes: Route[] = [
  { path: '/hello/:name', handle: async (_, response, { params }) => void response.end(`hello ${params['name']}`) },
  { path: '/refuse', handle: () => Promise.reject(new Refusal(403, 'no', 'not you', { 'X-Why': 'so' })) },
  { path: '/crash', handle: () => Promise.reject(new Error('secret detail')) },
  { path: '/silent', handle: async () => {} },
  {
    path: '/hold',
    handle: async (_, response, { signal }) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      const entry = { release: resolve, aborted: false };
      held.push(entry);
      signal.addEventListener('abort', () => {
        entry.aborted = true;
        resolve();
      });
      handled.resolve();
      await promise;
      response.end('held');
    },
  },
];

before(() => {
  held.length = 0;
});

const open = (options: Partial<GatewayOptions> = {}) =>
  Gateway.open(
    { routes, log: silentLog, metrics: createMetrics() },
    { listen: ['127.0.0.1:0'], closeMs: 100, ...options },
  );

async function raw(gateway: Gateway, text: string): Promise<string> {
  const socket = connect(gateway.ports[0] ?? 0, '127.0.0.1').on('error', () => {});
  socket.write(text);
  let answer = '';
  socket.setEncoding('latin1').on('data', (piece) => {
    answer += piece;
  });
  await once(socket, 'close');
  return answer;
}

const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1]);
const get = (path: string, ...headers: string[]) =>
  `GET ${path} HTTP/1.1\r\nHost: x\r\n${headers.map((each) => `${each}\r\n`).join('')}Connection: close\r\n\r\n`;

describe('gateway', () => {
  it('answers what its routes say, and their failures without their secrets', async () => {
    await using gateway = await open();
    const ask = async (path: string, method = 'GET') => {
      const answer = await fetch(`${gateway.addresses[0]}${path}`, { method });
      return { status: answer.status, text: await answer.text(), headers: answer.headers };
    };
    assert.deepEqual((await ask('/hello/you')).text, 'hello you');
    assert.deepEqual((await ask('/hello/you', 'HEAD')).text, '');
    const refused = await ask('/refuse');
    assert.deepEqual([refused.status, refused.headers.get('x-why')], [403, 'so']);
    assert.deepEqual(JSON.parse(refused.text), { error: 'no', detail: 'not you' });
    for (const path of ['/crash', '/silent']) {
      const failed = await ask(path);
      assert.equal(failed.status, 500);
      assert.ok(!failed.text.includes('secret'));
    }
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
      assert.equal((await ask('/hello/you', method)).status, 405, method);
    }
  });

  it('survives hostile request lines and headers, each with the status it deserves', async () => {
    await using gateway = await open({ maxHeaderBytes: 4096 });
    const cases: [string, number][] = [
      [get('/hello/you'), 200],
      [get('/hello/../../etc/passwd'), 400],
      [get('/hello/%2e%2e%2fetc'), 400],
      [get('//etc/passwd'), 404],
      [get(`/${'a'.repeat(3000)}`), 414],
      [get('/hello/you', `X: ${'a'.repeat(5000)}`), 431],
      [get('/hello/you', 'Content-Length: 5', 'Transfer-Encoding: chunked'), 400],
      [get('/hello/you', 'Content-Length: 9999999999999'), 400],
      [get('/hello/you', 'Transfer-Encoding: chunked'), 400],
      [get('/hello/you', 'Content-Length: -1'), 400],
      [get('/hello/you', 'X\u0000Y: 1'), 400],
      [get('/hello/you', 'X : 1'), 400],
      [get('/hello/you', 'Expect: 200-maybe'), 417],
      ['GET /hello/you HTTP/1.1\r\n\r\n', 400],
      ['GET /hello/you HTTP/9.9\r\nHost: x\r\n\r\n', 400],
      ['GET\t/hello/you\tHTTP/1.1\r\n\r\n', 400],
      ['\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003 a TLS hello', 400],
      ['\r\n\r\n\r\nnonsense\r\n\r\n', 400],
    ];
    for (const [text, status] of cases) assert.equal(statusOf(await raw(gateway, text)), status, text.slice(0, 80));
    await raw(gateway, 'CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n');
    assert.equal(statusOf(await raw(gateway, get('/hello/still'))), 200);
  });

  it('is still there after thousands of random messages', async () => {
    await using gateway = await open({ headersMs: 300, requestMs: 400, keepAliveMs: 100 });
    const word = fc.constantFrom(
      'GET',
      ' ',
      '/',
      '/hello/x',
      'HTTP/1.1',
      '\r\n',
      '\r\n\r\n',
      ':',
      'Host: x',
      '\u0000',
      '%',
    );
    const message = fc.oneof(
      fc.string(),
      fc.array(word, { maxLength: 20 }).map((words) => words.join('')),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(message, { minLength: 20, maxLength: 20 }), async (messages) => {
        await Promise.all(
          messages.map(async (text) => {
            const socket = connect(gateway.ports[0] ?? 0, '127.0.0.1').on('error', () => {});
            socket.resume().end(text);
            await once(socket, 'close');
          }),
        );
      }),
      { numRuns: 100 },
    );
    assert.equal(statusOf(await raw(gateway, get('/hello/still'))), 200);
  });

  it('gives up on a client that does not finish its request', async () => {
    await using gateway = await open({ headersMs: 100, requestMs: 150 });
    const slow = ['', 'GET /hello/you HTTP/1.1\r\nHost: '].map((text) => raw(gateway, text));
    assert.deepEqual((await Promise.all(slow)).map(statusOf), [408, 408]);
  });

  it('refuses one connection too many of a client, with 503, and takes it when another has ended', async () => {
    await using gateway = await open({ connectionsPerClient: 2 });
    const sockets: Socket[] = [];
    for (const _ of [1, 2]) {
      const socket = connect(gateway.ports[0] ?? 0, '127.0.0.1');
      socket.write('GET /hello/you HTTP/1.1\r\nHost: x\r\n\r\n');
      await once(socket, 'data');
      sockets.push(socket);
    }
    const refused = await raw(gateway, get('/hello/you'));
    assert.match(refused, /^HTTP\/1\.1 503 [\s\S]*Retry-After: 5[\s\S]*"error":"busy"/);
    for (const socket of sockets) socket.destroy();
    for (;;) if (statusOf(await raw(gateway, get('/hello/you'))) === 200) break;
  });

  it('answers pipelined requests one after the other, and ends a connection that asks too many at once', async () => {
    await using gateway = await open();
    const one = 'GET /hello/you HTTP/1.1\r\nHost: x\r\n\r\n';
    const answers = await raw(gateway, one.repeat(9) + get('/hello/last'));
    assert.equal(answers.split('HTTP/1.1 200 ').length - 1, 10);
    const flood = await raw(gateway, 'GET /hold HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(500));
    assert.equal(flood, '');
    assert.equal(statusOf(await raw(gateway, get('/hello/still'))), 200);
  });

  it('lets transfers end when it closes, cuts them at the deadline, and closes once', async () => {
    for (const release of [true, false]) {
      handled = Promise.withResolvers();
      const gateway = await open({ closeMs: 150 });
      const answer = raw(gateway, get('/hold'));
      await handled.promise;
      const closed = Promise.all([gateway.close(), gateway.close()]);
      const last = held.at(-1) ?? assert.fail();
      if (release) last.release();
      await closed;
      assert.equal((await answer).endsWith('held'), release);
      assert.equal(last.aborted, !release);
      await assert.rejects(fetch(gateway.addresses[0] ?? ''));
    }
  });

  it('listens on all of its addresses or on none', async () => {
    await using first = await open({ listen: ['127.0.0.1:0', '[::1]:0'] });
    for (const address of first.addresses) assert.equal((await fetch(`${address}/hello/you`)).status, 200);
    const taken = first.addresses[0]?.replace('http://', '') ?? '';
    const other = `[::1]:${(first.ports[1] ?? 0) === 65_535 ? 65_534 : (first.ports[1] ?? 0) + 1}`;
    await assert.rejects(open({ listen: [other, taken] }), { code: 'LISTEN', message: /cannot listen on 127/ });
    await assert.rejects(fetch(`http://${other}/hello/you`));
    await assert.rejects(open({ listen: ['localhost'] }), { code: 'LISTEN' });
  });
});
