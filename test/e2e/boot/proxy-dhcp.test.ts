import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { PublishResult } from '../../../src/admin/results.ts';
import type { BootStatus } from '../../../src/boot/boot.ts';
import type { Site } from '../../../src/demo/site.ts';
import { messageType, option, readAddress, readType } from '../../../src/dhcp/option.ts';
import { type DhcpPacket, decodeDhcp } from '../../../src/dhcp/packet.ts';
import { connect, createNamespace, Namespace } from '../../../src/lab/namespace.ts';
import { BRIDGE } from '../../../src/lab/topology.ts';
import { CMDLINE, openSite } from './boot-site.ts';
import { missingForGuests } from './guest-lab.ts';
import { MARKER } from './small-rootfs.ts';

const missing = missingForGuests();
const options = { skip: missing === '' ? false : missing, timeout: 120_000 };

/** The origin takes no part: only nodes that start after the other server are asked. */
const DESCRIPTION = `
fleet: proxy-dhcp
channels: [demo]
sites: { here: { lan: 1Gbit } }
nodes:
  north: { site: here, roles: [origin, seed], boot: off }
  east: { site: here, boot: auto }
  west: { site: here, boot: auto }
machines:
  bare: { segment: here, memory: 512MiB }
`;
const NODES = ['east', 'west'] as const;
/** Neither in our own pool nor any node's. */
const SERVER = '10.77.1.5';
const ITS_POOL = { from: '10.77.1.210', to: '10.77.1.219' } as const;

let scene: Awaited<ReturnType<typeof openSite>>;
let published: PublishResult;

before(async () => {
  if (missing !== '') return;
  const signal = AbortSignal.timeout(90_000);
  scene = await openSite(DESCRIPTION, { signal });
  const { site, directory } = scene;
  await dnsmasq(site, directory);
  [published] = await Promise.all([site.publish(CMDLINE, { signal }), site.start(NODES, { signal })]);
  await site.untilHeld(['north', ...NODES], { signal });
});
after(async () => {
  await scene?.[Symbol.asyncDispose]();
});

test('beside another DHCP server the nodes are ProxyDHCP only, and the machine boots', options, async (t) => {
  const { site, directory } = scene;
  const { lab } = site;
  const signal = AbortSignal.timeout(options.timeout);
  for (const name of NODES) {
    while ((await boot(site, name)).role === 'undecided') await delay(100, undefined, { signal });
    const { role, foreignServer } = await boot(site, name);
    assert.deepEqual([name, role, foreignServer], [name, 'proxy', SERVER]);
  }

  const capture = join(directory, 'bare.pcap');
  await using vm = await lab.startMachine('bare', { capture }, { signal });
  const up = await vm.waitFor(MARKER, { signal });
  t.diagnostic(`up ${((up.at - vm.startedAt) / 1000).toFixed(1)} s after power-on`);
  assert.equal(MARKER.exec(up.text)?.[1], published.artifacts.find(({ name }) => name === 'rootfs')?.sha256);
  assert.equal(vm.resets, 0);

  // The address is dnsmasq's, for the firmware and for the system.
  const mac = lab.topology.machines['bare']?.mac ?? '';
  const [, leased = ''] = new RegExp(`${mac} (\\S+)`).exec(await readFile(join(directory, 'leases'), 'utf8')) ?? [];
  assert.match(leased, /^10\.77\.1\.21\d$/);
  const net = await vm.waitFor(/bootmesh: net up address=/, { signal });
  assert.ok(net.text.includes(`eth0/${leased}/24`), net.text);

  // What the machine heard: addresses from dnsmasq alone, boot files from us alone.
  const ours = NODES.map((name) => lab.node(name).addresses.ipv4 ?? '');
  const replies = dhcpMessages(await readFile(capture)).filter(({ packet }) => packet.op === 2);
  const heard = replies.filter(({ packet }) => Buffer.from(packet.chaddr).toString('hex') === mac.replaceAll(':', ''));
  const from = (address: string) => heard.filter(({ source }) => source === address).map(({ packet }) => packet);
  assert.ok(from(SERVER).some((packet) => readType(packet) === messageType.ack && packet.yiaddr === leased));
  assert.ok(from(SERVER).every((packet) => packet.file === '' && !packet.options.has(option.bootFile)));
  const proxied = ours.flatMap(from);
  assert.ok(proxied.length > 0);
  assert.ok(proxied.every((packet) => readType(packet) === messageType.offer && packet.yiaddr === '0.0.0.0'));
  assert.ok(proxied.every((packet) => ours.includes(readAddress(packet, option.serverIdentifier) ?? '')));
  assert.equal(heard.length, from(SERVER).length + proxied.length, 'and nobody else answered it');
  for (const name of NODES) assert.deepEqual((await boot(site, name)).leases, []);
});

async function boot(site: Site, name: string): Promise<Pick<BootStatus, 'role' | 'foreignServer' | 'leases'>> {
  const status = await (await site.admin(name)).status({}, { signal: AbortSignal.timeout(5000) });
  return status.boot as unknown as BootStatus;
}

/** Plugs a namespace with a DHCP server, and nothing else, into the segment. It goes with the lab. */
async function dnsmasq({ lab }: Site, directory: string): Promise<ChildProcess> {
  const namespace = await createNamespace(`${lab.topology.prefix}x-dnsmasq`);
  const segment = new Namespace(lab.topology.machines['bare']?.namespace ?? '');
  await connect(
    { namespace, interface: 'eth0', addresses: [`${SERVER}/24`] },
    { namespace: segment, interface: 'dnsmasq', bridge: BRIDGE },
  );
  const leases = join(directory, 'leases');
  await writeFile(leases, '');
  const args = [
    '--pdeathsig',
    'KILL',
    'dnsmasq',
    '-d',
    '--conf-file=/dev/null',
    '--user=root',
    '--port=0',
    '--interface=eth0',
    '--bind-interfaces',
  ];
  const range = [`--dhcp-range=${ITS_POOL.from},${ITS_POOL.to},1h`, '--dhcp-option=3,10.77.1.1', '--no-ping'];
  const child = namespace.spawn(['setpriv', ...args, ...range, `--dhcp-leasefile=${leases}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const signal = AbortSignal.timeout(10_000);
  while (!said.includes('sockets bound')) await once(child.stderr as NodeJS.ReadableStream, 'data', { signal });
  return child;
}

/** The DHCP messages to clients and servers in a pcap file of Ethernet frames, with their IPv4 source. */
function dhcpMessages(pcap: Buffer): { readonly source: string; readonly packet: DhcpPacket }[] {
  const found: { source: string; packet: DhcpPacket }[] = [];
  for (let at = 24; at + 16 <= pcap.length; ) {
    const captured = pcap.readUInt32LE(at + 8);
    const ip = pcap.subarray(at + 16 + 14, at + 16 + captured);
    const isIpv4 = pcap.readUInt16BE(at + 16 + 12) === 0x0800;
    at += 16 + captured;
    if (!isIpv4 || ip.length < 28 || ip[9] !== 17) continue;
    const udp = ip.subarray(((ip[0] ?? 0) & 15) * 4, ip.readUInt16BE(2));
    if (![67, 68].includes(udp.readUInt16BE(2))) continue;
    found.push({ source: [...ip.subarray(12, 16)].join('.'), packet: decodeDhcp(udp.subarray(8)) });
  }
  return found;
}
