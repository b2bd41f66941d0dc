import type { PeerDiscovery, PeerInfo } from '@libp2p/interface';
import { mdns } from '@libp2p/mdns';
import { Courtesy } from './courtesy.ts';

/** Service name of the segment's multicast DNS, so that other libp2p programs are not asked. */
const MDNS_TAG = '_bootmesh._udp.local';
/** How often it is looked whether a question is due, milliseconds. */
const LOOK_MS = 1_000;

/** What @libp2p/mdns has inside: the socket that its questions and answers leave by, while it is started. */
interface Inside extends PeerDiscovery {
  readonly mdns?: MdnsSocket | undefined;
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** The part of `multicast-dns` that is used here. */
interface MdnsSocket {
  query(...args: unknown[]): void;
  respond(...args: unknown[]): void;
  on(event: 'query', heard: (packet: { readonly questions?: readonly { readonly name: string }[] }) => void): void;
}

/**
 * Members of this segment by multicast DNS. What @libp2p/mdns sends is thinned out as RFC 6762 wants it: by itself it
 * asks every few seconds whatever others ask, and all answer each time, which all read: with the third power of the
 * nodes. And only members that we are not connected to are told of: the peer store must not grow with what a stranger
 * shouts on the segment.
 */
export function segmentDiscovery(deps: { admits(peerId: string): boolean; connected(peerId: string): boolean }) {
  return (components: Parameters<ReturnType<typeof mdns>>[0]): PeerDiscovery => {
    const inner = mdns({ serviceTag: MDNS_TAG, interval: LOOK_MS })(components) as Inside;
    const dispatch = inner.dispatchEvent.bind(inner);
    inner.dispatchEvent = (event: Event) => {
      const peer = event.type === 'peer' ? (event as CustomEvent<PeerInfo>).detail.id.toString() : undefined;
      return peer === undefined || (deps.admits(peer) && !deps.connected(peer)) ? dispatch(event) : false;
    };
    const start = inner.start.bind(inner);
    const stop = inner.stop.bind(inner);
    let courtesy: Disposable | undefined;
    inner.start = async () => {
      await start();
      if (inner.mdns !== undefined) courtesy = courteous(inner.mdns);
    };
    inner.stop = async () => {
      courtesy?.[Symbol.dispose]();
      await stop();
    };
    return inner;
  };
}

/** @param socket one that has just asked for the first time */
function courteous(socket: MdnsSocket): Disposable {
  const courtesy = new Courtesy({ random: Math.random }, performance.now());
  const query = socket.query.bind(socket);
  const respond = socket.respond.bind(socket);
  let answering: NodeJS.Timeout | undefined;
  socket.query = (...args) => {
    if (courtesy.mayAsk(performance.now())) query(...args);
  };
  // Our own questions come back to us, too.
  socket.on('query', ({ questions }) => {
    if (questions?.[0]?.name === MDNS_TAG) courtesy.asked(performance.now());
  });
  socket.respond = (...args) => {
    if (answering !== undefined) return;
    const wait = courtesy.answer(performance.now());
    answering = setTimeout(() => {
      answering = undefined;
      respond(...args);
    }, wait).unref();
  };
  return { [Symbol.dispose]: () => clearTimeout(answering) };
}
