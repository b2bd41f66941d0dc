import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMetrics } from '../../src/observe/metrics.ts';
import type { SwarmNode } from '../../src/swarm/node.ts';
import { PeerTraffic } from '../../src/swarm/traffic.ts';

test('chunk bytes are told as metrics by direction and site, each byte once however often they are asked for', async () => {
  const metrics = createMetrics();
  const sites: Readonly<Record<string, string>> = { ada: 'north', ben: 'north', cleo: 'south' };
  const open = () =>
    new PeerTraffic({
      node: {} as SwarmNode,
      membership: { member: (peer) => (sites[peer] === undefined ? undefined : { site: sites[peer] }) },
      metrics,
      bannedUntil: () => undefined,
      link: () => undefined,
    });
  const traffic = open();
  const told = async (direction: string, site: string) => {
    const line = `bootmesh_swarm_chunk_bytes_total{direction="${direction}",site="${site}"} `;
    const found = (await metrics.text()).split('\n').find((one) => one.startsWith(line));
    return Number(found?.slice(line.length));
  };
  traffic.count('ada', 'in', 100);
  traffic.count('ben', 'in', 20);
  traffic.count('cleo', 'out', 3);
  assert.equal(await told('in', 'north'), 120);
  assert.equal(await told('out', 'south'), 3);
  traffic.count('ada', 'in', 1);
  assert.equal(await told('in', 'north'), 121);
  assert.equal(await told('out', 'north'), 0);
  open().count('ada', 'in', 9);
  assert.equal(await told('in', 'north'), 130, 'a second swarm of the same process counts in the same place');
});
