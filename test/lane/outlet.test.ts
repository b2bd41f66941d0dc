import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { suite, test } from 'node:test';
import type { Lane } from '../../src/lane/lane.ts';
import { Outlet } from '../../src/lane/outlet.ts';

const signal = AbortSignal.timeout(20_000);
const FRAME = { request: 1, flags: 0, bytes: new Uint8Array(1024 * 1024) };
/** More than is swallowed before a rate shows, and than the windows until a lane is doubted. */
const FRAMES = 100;
/** On the one link that all lanes share: 10 MB/s. */
const MS_PER_FRAME = 100;

/** Outlets to some peers, whose fast lanes share one link with a clock of its own. Returns frames sent by the streams. */
async function serve(peers: number): Promise<number> {
  const link = { now: 0, byStream: 0 };
  const busy = new Set<Outlet>();
  const stream: Lane = {
    send: async () => {
      link.byStream += 1;
    },
    close: () => undefined,
  };
  const outlets = Array.from({ length: peers }, () => {
    const socket = new Duplex({
      read: () => undefined,
      write: (bytes: Uint8Array, _, done) => {
        if (bytes.length === FRAME.bytes.length) link.now += MS_PER_FRAME;
        setImmediate(done);
      },
    });
    const outlet = new Outlet({ heard: () => undefined, died: () => undefined, busy, now: () => link.now });
    outlet.attachStream(stream);
    outlet.attach('plain', socket as Socket);
    return outlet;
  });
  // There is always another frame that waits, at every peer.
  const senders = outlets.flatMap((outlet) => [outlet, outlet, outlet]);
  const send = async (outlet: Outlet) => {
    for (let n = 0; n < FRAMES / 3; n += 1) await outlet.send(FRAME, { signal });
  };
  await Promise.all(senders.map(send));
  for (const outlet of outlets) outlet.close(new Error('over'));
  return link.byStream;
}

suite('where chunks leave for a peer', { timeout: 30_000 }, () => {
  test('a lane that is slow although nobody else is served is measured against the stream', async () => {
    assert.ok((await serve(1)) > 0);
  });

  test('one that shares our link with those to other peers is not: its part of the link says nothing of it', async () => {
    assert.equal(await serve(4), 0);
  });
});
