import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Gateway } from '../../src/gateway/gateway.ts';
import { type Releases, releaseRoutes } from '../../src/gateway/release-route.ts';
import { statusRoutes } from '../../src/gateway/status-route.ts';
import { silentLog } from '../../src/observe/log.ts';
import { createMetrics } from '../../src/observe/metrics.ts';

const ticket = { text: 'bootmesh-ticket 1\nchannel production\n', signature: 'untrusted comment: x\nRWQ=\n' };
const releases: Releases = {
  follows: (channel) => channel !== 'other',
  current: (channel) => {
    if (channel === 'production') return { release: { channel, version: 3 }, ticket };
    return channel === 'plain' ? { release: { channel, version: 1 } } : undefined;
  },
};
let healthy = true;
const status = { snapshot: () => ({ peers: 3 }), healthy: () => healthy };

async function answers() {
  const metrics = createMetrics();
  const routes = [...releaseRoutes({ releases }), ...statusRoutes({ status, metrics })];
  const gateway = await Gateway.open({ routes, log: silentLog, metrics }, { listen: ['127.0.0.1:0'] });
  const ask = async (path: string) => {
    const answer = await fetch(`${gateway.addresses[0]}${path}`);
    return { status: answer.status, text: await answer.text(), retry: answer.headers.get('retry-after') };
  };
  return { ask, [Symbol.asyncDispose]: () => gateway.close() };
}

describe('/release/<channel>', () => {
  it('gives the release, and its ticket byte for byte', async () => {
    await using gateway = await answers();
    assert.deepEqual(JSON.parse((await gateway.ask('/release/production')).text), {
      channel: 'production',
      version: 3,
    });
    assert.equal((await gateway.ask('/release/production/ticket')).text, ticket.text);
    assert.equal((await gateway.ask('/release/production/ticket.sig')).text, ticket.signature);
  });

  it('tells what will never be here from what is not here yet', async () => {
    await using gateway = await answers();
    const [other, coming] = [await gateway.ask('/release/other'), await gateway.ask('/release/testing/ticket')];
    assert.deepEqual([other.status, other.retry], [404, null]);
    assert.match(other.text, /channel other is not followed/);
    assert.deepEqual([coming.status, coming.retry], [503, '5']);
    assert.equal((await gateway.ask('/release/plain/ticket')).status, 404);
    assert.equal((await gateway.ask('/release/a%20b')).status, 404);
  });
});

describe('/status, /metrics and /healthz', () => {
  it('say how the node is', async () => {
    await using gateway = await answers();
    assert.deepEqual(JSON.parse((await gateway.ask('/status')).text), { peers: 3 });
    assert.deepEqual(await gateway.ask('/healthz'), { status: 200, text: '{"ok":true}\n', retry: null });
    healthy = false;
    assert.equal((await gateway.ask('/healthz')).status, 503);
    const { text } = await gateway.ask('/metrics');
    assert.match(text, /^bootmesh_gateway_requests_total\{route="\/healthz",status="503"\} 1$/m);
  });
});
