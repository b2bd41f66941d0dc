// A client in a namespace of its own that sends what standard input says (a JSON list), and prints the DHCP messages
// that come to its port 68 meanwhile.
import { createSocket, type Socket } from 'node:dgram';
import { networkInterfaces } from 'node:os';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';

export interface Ask {
  /** Hexadecimal datagram. */
  readonly hex: string;
  readonly port: number;
  readonly to: string;
  /** Wait after it, ms. */
  readonly waitMs: number;
}

const asks = JSON.parse(await text(process.stdin)) as Ask[];
const own = networkInterfaces()['eth0']?.find(({ family }) => family === 'IPv4')?.address ?? '0.0.0.0';

/** Broadcasts arrive at 0.0.0.0 only, and leave from the interface's own address only. */
async function open(address: string): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', reuseAddr: true });
  socket.on('message', (bytes, from) => {
    if (from.port !== 67 && from.port !== 4011) return;
    console.log(JSON.stringify({ from: from.address, hex: bytes.toString('hex') }));
  });
  await new Promise<void>((resolve) => socket.bind(68, address, resolve));
  socket.setBroadcast(true);
  return socket;
}

const heard = await open('0.0.0.0');
const sent = await open(own);
for (const { hex, port, to, waitMs } of asks) {
  sent.send(Buffer.from(hex, 'hex'), port, to, () => {});
  if (waitMs > 0) await delay(waitMs);
}
heard.close();
sent.close();
