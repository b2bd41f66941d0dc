/**
 * A BitTorrent tracker over HTTP (BEP 3, compact answers of BEP 23) for one torrent: whoever announces is told everyone
 * who announced before. A process of its own, since it must stand in the namespace of the scene: `node tracker.ts
 * ADDRESS PORT`; says `ready` when it listens, and `announced ADDRESS` each time.
 */
import { createServer } from 'node:http';
import { bencode } from './torrent.ts';

/** Seconds between two announces of a peer. The list that it gets at its start is complete enough: later ones dial it. */
const INTERVAL = 30;
const MOST_PEERS = 1000;

const [address, port] = process.argv.slice(2);
/** Compact form of each peer: IPv4 address and port, network byte order. */
const peers = new Map<string, Buffer>();

const server = createServer((request, response) => {
  const url = new URL(request.url ?? '/', 'http://tracker');
  const from = (request.socket.remoteAddress ?? '').replace(/^::ffff:/, '');
  const own = compact(from, Number(url.searchParams.get('port')));
  if (own === undefined) {
    response.writeHead(400).end();
    return;
  }
  const key = own.toString('hex');
  const others = [...peers].filter(([each]) => each !== key).map(([, bytes]) => bytes);
  if (url.searchParams.get('event') === 'stopped') peers.delete(key);
  else if (peers.size < MOST_PEERS) peers.set(key, own);
  console.log(`announced ${from}`);
  response.end(bencode({ interval: INTERVAL, peers: Buffer.concat(others) }));
});
server.listen(Number(port), address, () => console.log('ready'));

function compact(ipv4: string, port: number): Buffer | undefined {
  const octets = ipv4.split('.').map(Number);
  const valid = octets.length === 4 && octets.every((octet) => octet >= 0 && octet <= 255);
  if (!valid || !Number.isInteger(port) || port < 1 || port > 65_535) return undefined;
  return Buffer.from([...octets, port >> 8, port & 0xff]);
}
