/**
 * How bytes travel below us, in one place: the node and the bench's bare stream use the same.
 * The Yamux window bounds what a peer may make us hold per stream; libp2p's 256 KiB to start with empties faster than
 * a segment's round trip refills it. All nodes of a fleet must agree on the first window (it is not negotiated).
 */
export const TRANSPORT = {
  tcp: {
    // A socket's write buffer: with Node's 64 KiB each encrypted message waits for the previous one to leave.
    dialOpts: { noDelay: true, highWaterMark: 1024 * 1024 },
    listenOpts: { noDelay: true, highWaterMark: 1024 * 1024 },
  },
  yamux: {
    streamOptions: {
      initialStreamWindowSize: 4 * 1024 * 1024,
      maxStreamWindowSize: 4 * 1024 * 1024,
    },
    maxInboundStreams: 256,
    maxOutboundStreams: 256,
  },
};
