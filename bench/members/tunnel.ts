/**
 * One end of a tunnel, as a program in a namespace of its own. `far` sends back what it gets. `near` has many more peers
 * on its interface, adds and removes one of them again and again, and watches the tunnel to `far` meanwhile.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { newWireguardKey, wireguardPublicKey } from '../../src/fleet/wireguard-key.ts';
import { silentLog } from '../../src/observe/log.ts';
import { WireguardInterface } from '../../src/overlay/interface.ts';

export interface TunnelPlan {
  readonly role: 'near' | 'far';
  readonly name: string;
  readonly keyFile: string;
  /** Of that key. */
  readonly ownKey: string;
  readonly address: string;
  readonly driver: 'auto' | 'kernel' | 'userspace';
  readonly other: { readonly publicKey: string; readonly address: string; readonly endpoint: string };
  /** Further peers. */
  readonly peers: number;
  readonly rounds: number;
}

export interface TunnelReport {
  readonly driver: string;
  readonly peers: number;
  /** All of them, when the interface is new. */
  readonly set_all_ms: number;
  readonly add_ms: readonly number[];
  readonly remove_ms: readonly number[];
  /** Datagrams through the tunnel meanwhile, and those that came back. */
  readonly sent: number;
  readonly returned: number;
  /** The tunnel has the session of before. */
  readonly same_session: boolean;
}

const PORT = 51_820;
const ECHO_PORT = 7_007;
const EVERY_MS = 10;

if (import.meta.main) {
  const plan = JSON.parse(process.argv[2] ?? '{}') as TunnelPlan;
  const { name, driver, keyFile, ownKey, address, other } = plan;
  const options = {
    name,
    driver,
    port: PORT,
    key: keyFile,
    publicKey: ownKey,
    addresses: [`${address}/128`],
    routes: [`${other.address}/128`],
  };
  await using tunnel = await WireguardInterface.open(options, { log: silentLog });
  const { publicKey, endpoint } = other;
  await tunnel.set([{ publicKey, endpoint, allowedIps: [`${other.address}/128`] }]);
  if (plan.role === 'far') await echo(address);
  else console.log(JSON.stringify(await measure(tunnel, plan)));
}

async function echo(address: string): Promise<void> {
  const socket = createSocket('udp6');
  socket.on('message', (message, from) => socket.send(message, from.port, from.address));
  socket.bind(ECHO_PORT, address);
  await once(socket, 'listening');
  console.log('{"ready":true}');
  await once(process, 'SIGTERM');
  socket.close();
}

async function measure(tunnel: WireguardInterface, { other, peers, rounds }: TunnelPlan): Promise<TunnelReport> {
  const keys = Array.from({ length: peers }, () => wireguardPublicKey(newWireguardKey()));
  const peerOf = (publicKey: string, n: number) => ({
    publicKey,
    allowedIps: [`fd00:1::${(n + 16).toString(16)}/128`],
  });
  const set_all_ms = await timed(() => tunnel.set(keys.map(peerOf)));
  const watch = await watchTunnel(other.address);
  const session = async () =>
    (await tunnel.show()).peers.find(({ publicKey }) => publicKey === other.publicKey)?.handshakeAt;
  const before = await session();
  const [add_ms, remove_ms]: [number[], number[]] = [[], []];
  for (let n = 0; n < rounds; n += 1) {
    const index = n % keys.length;
    const key = keys[index] ?? '';
    remove_ms.push(await timed(() => tunnel.remove([key])));
    add_ms.push(await timed(() => tunnel.set([peerOf(key, index)])));
  }
  const { sent, returned } = await watch.end();
  const shown = await tunnel.show();
  const same_session = before !== undefined && before === (await session());
  return {
    driver: tunnel.driver,
    peers: shown.peers.length,
    set_all_ms,
    add_ms,
    remove_ms,
    sent,
    returned,
    same_session,
  };
}

/** Sends through the tunnel all the time, from when it carries something. */
async function watchTunnel(address: string) {
  const socket = createSocket('udp6');
  let [sent, returned] = [0, 0];
  socket.on('message', () => {
    returned += 1;
  });
  const send = () => {
    sent += 1;
    socket.send(Buffer.from(String(sent)), ECHO_PORT, address, () => undefined);
  };
  const until = performance.now() + 10_000;
  while (returned === 0) {
    if (performance.now() > until) throw new Error('the tunnel carries nothing');
    send();
    await delay(100);
  }
  await delay(500);
  [sent, returned] = [0, 0];
  const timer = setInterval(send, EVERY_MS);
  const end = async () => {
    clearInterval(timer);
    await delay(500);
    socket.close();
    return { sent, returned };
  };
  return { end };
}

async function timed(work: () => Promise<void>): Promise<number> {
  const from = performance.now();
  await work();
  return Number((performance.now() - from).toFixed(1));
}
