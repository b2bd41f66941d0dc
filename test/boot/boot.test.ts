import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { messageType, option, readAddress, readType } from '../../src/dhcp/option.ts';
import { type DhcpPacket, decodeDhcp, encodeDhcp } from '../../src/dhcp/packet.ts';
import { CommandFailed } from '../../src/host/command.ts';
import type { Namespace } from '../../src/lab/namespace.ts';
import { missingRequirements } from '../../src/lab/requirements.ts';
import { capture } from '../fixtures/hex.ts';
import { ask, SegmentLab, type SegmentNode } from './segment-lab.ts';

const pool = { from: '10.66.0.100', to: '10.66.0.150' };
const everyone = '255.255.255.255';
const rom = decodeDhcp(capture('dhcp/ipxe-rom-discover'));
const plain = decodeDhcp(capture('dhcp/udhcpc-discover'));

function from(mac: string, base: DhcpPacket, changes: Partial<DhcpPacket> = {}): string {
  const chaddr = Uint8Array.from(Buffer.from(mac.replaceAll(':', ''), 'hex'));
  return Buffer.from(encodeDhcp({ ...base, chaddr, ...changes })).toString('hex');
}

/** A real client's lease: udhcpc asks until it has one, or gives up after `tries` seconds. */
async function udhcpc(namespace: Namespace, tries = 4): Promise<{ address: string; server: string }> {
  const args = ['-f', '-n', '-q', '-t', String(tries), '-T', '1', '-i', 'eth0', '-s', '/bin/true'];
  const { stderr } = await namespace.run(['busybox', 'udhcpc', ...args]).catch((error) => {
    if (error instanceof CommandFailed) return error;
    throw error;
  });
  const [, address = '', server = ''] = /lease of (\S+) obtained from (\S+),/.exec(stderr) ?? [];
  return { address, server };
}

async function started(nodes: readonly SegmentNode[], role: 'server' | 'proxy' = 'server'): Promise<void> {
  for (const node of nodes) {
    await node.until((status) => status.neighbours.length === nodes.length - 1 && status.role === role);
  }
  for (const node of nodes) {
    await node.until(({ neighbours }) => neighbours.every(({ answering }) => answering));
  }
}

const missing = await missingRequirements();
const skip = missing.length > 0 && `no segment can be made here: ${missing.join('; ')}`;

describe('three DHCP nodes on one segment', { skip, concurrency: 2 }, () => {
  it('offer one client one address, one after another, and any of them renews it', { timeout: 60_000 }, async () => {
    await using lab = await SegmentLab.create(['a', 'b', 'c']);
    const nodes = await Promise.all(['a', 'b', 'c'].map((name, index) => lab.node(name, index + 1, { pool })));
    await started(nodes);
    const macs = ['52:54:00:00:01:01', '52:54:00:00:01:02'];
    const clients = await Promise.all(macs.map((mac, index) => lab.plug(`c${index}`, { mac })));
    const leases = await Promise.all(clients.map((client) => udhcpc(client)));
    assert.ok(leases.every(({ address }) => /^10\.66\.0\.1[0-4]\d$|^10\.66\.0\.150$/.test(address)));
    assert.notEqual(leases[0]?.address, leases[1]?.address);

    // Both clients ask over and over: each node has its turn, and all say the same.
    const asker = await lab.plug('asker', { addresses: ['10.66.0.200/24'] });
    for (const [index, mac] of macs.entries()) {
      const question = { hex: from(mac, rom), port: 67, to: everyone, waitMs: 600 };
      const offers = (await ask(asker, [question, question, question])).filter(
        ({ packet }) => readType(packet) === messageType.offer,
      );
      assert.deepEqual(new Set(offers.map((offer) => offer.from)).size, 3, 'each node answered once');
      // A node that does not run for a quarter of a second when it is its turn answers beside the next one.
      assert.ok(offers.length <= 4, 'and hardly anybody answered beside the one whose turn it was');
      for (const { packet } of offers) {
        assert.equal(packet.yiaddr, leases[index]?.address);
        assert.match(packet.file, /^http:\/\/10\.66\.0\.[123]:8080\/boot\/production\.ipxe\?mac=52-54-00-00-01-0/);
      }
    }

    // The node that gave the lease dies; whoever is left renews it (a broadcast REQUEST with ciaddr, RFC 2131 4.3.2).
    const [first] = leases;
    await nodes.find(({ address }) => address === first?.server)?.kill();
    const options = new Map([[option.messageType, Uint8Array.of(messageType.request)]]);
    const renewal = from(macs[0] ?? '', plain, { ciaddr: first?.address ?? '', options });
    await clients[0]?.addAddresses('eth0', [`${first?.address}/24`]);
    const acks = await ask(clients[0] as Namespace, [{ hex: renewal, port: 67, to: everyone, waitMs: 1200 }]);
    assert.ok(acks.length >= 1);
    assert.ok(acks.every(({ packet }) => readType(packet) === messageType.ack && packet.yiaddr === first?.address));
    assert.notEqual(acks[0]?.from, first?.server);
  });

  it('answer for a node that died before its neighbours noticed, and keep leases over restarts', {
    timeout: 60_000,
  }, async () => {
    await using lab = await SegmentLab.create(['a', 'b']);
    const nodes = await Promise.all(['a', 'b'].map((name, index) => lab.node(name, index + 1, { pool })));
    await started(nodes);
    const client = await lab.plug('c', { mac: '52:54:00:00:02:01' });
    const before = await udhcpc(client);
    const [dead, alive] = before.server === nodes[0]?.address ? nodes : nodes.toReversed();
    await dead?.kill();
    assert.deepEqual(await udhcpc(client), { address: before.address, server: alive?.address });
    assert.equal(await alive?.stop(), 0);
    const again = await lab.node(
      alive?.name ?? '',
      1 + nodes.indexOf(alive as SegmentNode),
      { pool },
      {
        namespace: alive?.namespace as Namespace,
      },
    );
    const status = await again.status();
    assert.deepEqual(
      status.leases.map(({ address, mac }) => [address, mac]),
      [[before.address, '52:54:00:00:02:01']],
    );
  });

  it('give nobody an address that a stranger uses', { timeout: 60_000 }, async () => {
    await using lab = await SegmentLab.create(['a']);
    const node = await lab.node('a', 1, { pool: { from: '10.66.0.100', to: '10.66.0.101' } });
    await node.until(({ role }) => role === 'server');
    await lab.plug('stranger', { addresses: ['10.66.0.100/24'] });
    const clients = await Promise.all(['1', '2'].map((n) => lab.plug(`c${n}`, { mac: `52:54:00:00:03:0${n}` })));
    const leases = await Promise.all(clients.map((client) => udhcpc(client)));
    assert.deepEqual(leases.map(({ address }) => address).sort(), ['', '10.66.0.101']);
  });

  it('say nothing to boot clients while they hold no release, nor to architectures they have none for', async () => {
    await using lab = await SegmentLab.create(['a', 'b']);
    const empty = await lab.node('a', 1, { pool }, {});
    await lab.node('b', 2, { pool });
    await empty.until(({ neighbours }) => neighbours.some(({ answering }) => answering));
    const asker = await lab.plug('asker', { addresses: ['10.66.0.200/24'] });
    const uefi = new Map([...rom.options, [option.architecture, Uint8Array.of(0, 11)]]);
    const question = (mac: string, changes = {}) => ({
      hex: from(mac, rom, changes),
      port: 67,
      to: everyone,
      waitMs: 0,
    });
    const macs = Array.from({ length: 8 }, (_, n) => `52:54:00:00:04:0${n}`);
    const offers = await ask(asker, [
      question('52:54:00:00:04:99', { options: uefi }),
      ...macs.map((mac) => question(mac)),
      { ...question(macs[0] ?? ''), waitMs: 1000 },
    ]);
    assert.ok(offers.length >= 8);
    assert.ok(offers.every((offer) => offer.from === '10.66.0.2'));
  });
});

describe('a second DHCP server on the segment', { skip, concurrency: 2 }, () => {
  async function dnsmasq(namespace: Namespace) {
    const args = ['-d', '--conf-file=/dev/null', '--port=0', '--interface=eth0', '--bind-interfaces', '--leasefile-ro'];
    const range = ['--dhcp-range=10.66.0.20,10.66.0.40,1h', '--no-ping'];
    const child = namespace.spawn(['dnsmasq', ...args, ...range], { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    while (!said.includes('sockets bound')) await once(child.stderr as NodeJS.ReadableStream, 'data');
    return child;
  }

  it('makes the nodes proxies, whether it is found at the start or comes later', { timeout: 60_000 }, async () => {
    await using lab = await SegmentLab.create(['a', 'b']);
    const other = await lab.plug('dns', { addresses: ['10.66.0.254/24'] });
    const alone = await lab.node('a', 1, { mode: 'auto', pool, discoveryMs: 600 });
    await alone.until(({ role }) => role === 'server');
    await dnsmasq(other);
    const late = await lab.node('b', 2, { mode: 'auto', pool, discoveryMs: 3000 });
    const status = await late.until(({ role }) => role !== 'undecided');
    assert.deepEqual([status.role, status.foreignServer], ['proxy', '10.66.0.254'], 'its own probe was answered');
    await alone.until(({ role }) => role === 'proxy');

    const client = await lab.plug('c', { mac: '52:54:00:00:05:01' });
    assert.equal((await udhcpc(client)).server, '10.66.0.254');
    const asker = await lab.plug('asker', { addresses: ['10.66.0.200/24'] });
    const hex = from('52:54:00:00:05:02', rom, { broadcast: true });
    const heard = await ask(asker, [{ hex, port: 67, to: everyone, waitMs: 1200 }]);
    // dnsmasq's answers to the nodes' own probes are broadcast as well.
    const offers = heard.filter(({ packet }) => packet.xid === rom.xid);
    const ours = offers.filter((offer) => offer.from !== '10.66.0.254');
    assert.equal(ours.length, 1);
    assert.equal(ours[0]?.packet.yiaddr, '0.0.0.0');
    assert.match(ours[0]?.packet.file ?? '', /^http:\/\/10\.66\.0\.[12]:8080\/boot\//);
    assert.equal(offers.length, 2, 'dnsmasq gives the address');

    // Port 4011 answers what is sent to this very node, firmware that is no iPXE included.
    const bare = new Map([...rom.options].filter(([code]) => code !== option.userClass && code !== option.ipxe));
    bare.set(option.messageType, Uint8Array.of(messageType.request));
    const pxe = from('52:54:00:00:05:02', rom, { ciaddr: '10.66.0.200', options: bare });
    const acks = (await ask(asker, [{ hex: pxe, port: 4011, to: '10.66.0.1', waitMs: 500 }])).filter(
      ({ packet }) => packet.xid === rom.xid,
    );
    assert.deepEqual(
      acks.map(({ packet }) => [readType(packet), packet.file, readAddress(packet, option.serverIdentifier)]),
      [[messageType.ack, 'undionly.kpxe', '10.66.0.1']],
    );
  });

  it('is ignored by a node that is told to be the server', { timeout: 60_000 }, async () => {
    await using lab = await SegmentLab.create(['a']);
    await dnsmasq(await lab.plug('dns', { addresses: ['10.66.0.254/24'] }));
    const node = await lab.node('a', 1, { mode: 'server', pool });
    await udhcpc(await lab.plug('c', { mac: '52:54:00:00:06:01' }));
    assert.equal((await node.status()).role, 'server');
  });
});

describe('hostile neighbours', { skip }, () => {
  it('cost a node neither its service nor its memory', { timeout: 90_000 }, async () => {
    await using lab = await SegmentLab.create(['a', 'b']);
    const node = await lab.node('a', 1, { pool });
    await node.until(({ role }) => role === 'server');
    const asker = await lab.plug('asker', { addresses: ['10.66.0.200/24'] });
    let seed = 1;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return (seed >>> 8) % below;
    };
    const mutated = (bytes: Uint8Array) => {
      const copy = Buffer.from(bytes.subarray(0, random(4) === 0 ? random(bytes.length) : bytes.length));
      for (let n = random(10); n > 0 && copy.length > 0; n--) copy[random(copy.length)] = random(256);
      return copy.toString('hex');
    };
    const names = [
      'dhcp/ipxe-rom-discover',
      'dhcp/udhcpc-request',
      'dhcp/dnsmasq-ack',
      'tftp/ipxe-rom-rrq',
      'tftp/curl-rrq',
    ];
    const seeds = names.map((name) => capture(name));
    const newcomer = () =>
      from(`02:00:00:00:${random(256).toString(16).padStart(2, '0')}:01`, rom, { xid: random(2 ** 24) });
    const flood = (count: number) =>
      Array.from({ length: count }, (_, n) => ({
        hex: n % 5 === 0 ? newcomer() : mutated(seeds[random(seeds.length)] as Uint8Array),
        // The segment's own port as well.
        port: [67, 67, 69, 4011, 6677][n % 5] as number,
        to: n % 5 < 2 ? everyone : '10.66.0.1',
        waitMs: n % 50 === 0 ? 1 : 0,
      }));
    await ask(asker, flood(2000)); // What a first load makes V8 compile and allocate is no leak.
    const { rss: before } = await node.ask();
    // 10^4 for each of TFTP, 4011 and the segment, twice that for DHCP.
    for (let round = 0; round < 25; round++) await ask(asker, flood(2000));
    await delay(1000);
    const { rss, status } = await node.ask();
    assert.ok(rss - before < 20 * 2 ** 20, `grew by ${((rss - before) / 2 ** 20).toFixed(1)} MiB`);
    assert.ok(status.events.length <= 256);
    assert.equal(status.neighbours.length, 0, 'nobody forged a neighbour');
    // The pool may be full of forged offers, which are taken back for real clients.
    const lease = await udhcpc(await lab.plug('c', { mac: '52:54:00:00:07:01' }));
    assert.equal(lease.server, '10.66.0.1');
    const { stdout } = await asker.run([
      'curl',
      '-s',
      '-o',
      '/dev/null',
      '-w',
      '%{size_download}',
      'tftp://10.66.0.1/undionly.kpxe',
    ]);
    assert.ok(Number(stdout) > 50_000);
  });
});

describe('a segment', { skip }, () => {
  it('of IPv6 alone knows its members, and no strangers', { timeout: 60_000 }, async () => {
    await using lab = await SegmentLab.create(['a', 'b']);
    const release = { version: 1, commandLine: 'quiet' };
    const a = await lab.node('a', 1, { mode: 'proxy' }, { release, v6only: true });
    const b = await lab.node('b', 2, { mode: 'proxy' }, { release, v6only: true });
    await lab.node('stranger', 3, { mode: 'proxy' }, { release, v6only: true });
    const status = await a.until(({ neighbours }) => neighbours.length === 1);
    assert.equal(status.neighbours[0]?.addresses[0], 'fd66::2');
    assert.match(status.missing.join(), /an IPv4 address on eth0/);
    await delay(1200);
    assert.deepEqual(
      (await a.status()).neighbours.map(({ peerId }) => peerId),
      ['b'],
    );
    await b.kill();
    await a.until(({ neighbours }) => neighbours.length === 0, { timeoutMs: 4500 });
  });
});

describe('a node without privileges', { skip }, () => {
  it('says what it lacks, and goes on', { timeout: 30_000 }, async () => {
    await using lab = await SegmentLab.create(['a', 'b']);
    const release = { version: 1, commandLine: 'quiet' };
    const node = await lab.node('a', 1, { mode: 'server', pool }, { release, powerless: true });
    await lab.node('b', 2, { mode: 'server', pool });
    const status = await node.until(({ neighbours }) => neighbours.length === 1);
    assert.match(status.missing.join('\n'), /CAP_NET_BIND_SERVICE to open UDP port 67/);
    assert.match(status.missing.join('\n'), /CAP_NET_BIND_SERVICE to open UDP port 69/);
    assert.equal(status.role, 'off');
    assert.equal(await node.stop(), 0);
  });
});
