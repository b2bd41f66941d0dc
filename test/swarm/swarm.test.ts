import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { content, Fleet, fill, holdsAll, soon } from './fleet.ts';

suite('swarm', () => {
  test('two nodes: a download is verified, complete, and reported', async () => {
    await using fleet = new Fleet();
    const a = await fleet.node();
    const b = await fleet.node();
    const { set, chunks } = content(100);
    await fill(a.store, chunks);
    await a.swarm.share(set);
    let progress = 0;
    const report = await b.swarm.download(set, { ...soon(), onProgress: ({ bytes }) => (progress = bytes) });
    assert.ok(await holdsAll(b.store, chunks));
    assert.equal(report.bytes, set.bytes);
    assert.equal(progress, set.bytes);
    assert.equal(report.bytesByPeer.get(a.swarm.peerId), set.bytes);
    assert.equal(report.duplicateBytes, 0);
  });
});
