import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { yamux } from '@chainsafe/libp2p-yamux';
import type { Stream } from '@libp2p/interface';
import { multiaddrConnectionPair } from '@libp2p/utils';
import { sparing } from '../../src/swarm/sparing.ts';
import { TRANSPORT } from '../../src/swarm/transport.ts';

const MESSAGES = 200;

test('small messages are not answered by window updates', async () => {
  assert.ok((await answersTo(MESSAGES, 64, yamux(TRANSPORT.yamux))) > MESSAGES / 2);
  assert.ok((await answersTo(MESSAGES, 64, sparing(yamux(TRANSPORT.yamux)))) < 10);
});

test('a stream carries more than its window all the same', async () => {
  const pieces = (3 * TRANSPORT.yamux.streamOptions.initialStreamWindowSize) / 65_536;
  const answers = await answersTo(pieces, 65_536, sparing(yamux(TRANSPORT.yamux)));
  assert.ok(answers < pieces / 4, `${answers} packets came back`);
});

/** Sends messages over one stream until all have arrived; counts what the receiving connection sent back. */
async function answersTo(messages: number, bytes: number, muxers: ReturnType<typeof sparing>): Promise<number> {
  const [outbound, inbound] = multiaddrConnectionPair();
  let answers = 0;
  const send = inbound.send.bind(inbound);
  inbound.send = (data) => {
    answers += 1;
    return send(data);
  };
  const [client, server] = [muxers().createStreamMuxer(outbound), muxers().createStreamMuxer(inbound)];
  let left = messages * bytes;
  const all = Promise.withResolvers<void>();
  server.addEventListener('stream', ({ detail: stream }) => {
    stream.addEventListener('message', ({ data }) => {
      left -= data.byteLength;
      if (left === 0) all.resolve();
    });
  });
  const stream = await client.createStream();
  for (let n = 0; n < messages; n += 1) await sent(stream, bytes);
  await all.promise;
  await Promise.all([client.close(), server.close()]);
  return answers;
}

/** As the control stream does it: one message after the other, when there is room. */
async function sent(stream: Stream, bytes: number): Promise<void> {
  if (!stream.send(new Uint8Array(bytes))) await once(stream, 'drain');
  await new Promise((resolve) => setImmediate(resolve));
}
