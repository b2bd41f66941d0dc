import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { classify } from '../../src/dhcp/client.ts';
import { addressText } from '../../src/dhcp/ipv4.ts';
import { messageType, option, readAddress, readArchitectures, readType } from '../../src/dhcp/option.ts';
import { DhcpError, type DhcpPacket, decodeDhcp, encodeDhcp } from '../../src/dhcp/packet.ts';
import { serverShown } from '../../src/dhcp/role.ts';
import { capture } from '../fixtures/hex.ts';

const address = fc.nat(0xffffffff).map((number) => addressText(number));
const words = (most: number) =>
  fc.string({ unit: 'grapheme-ascii', maxLength: most }).map((s) => s.replaceAll('\0', ''));
const packets: fc.Arbitrary<DhcpPacket> = fc.record({
  op: fc.constantFrom(1 as const, 2 as const),
  htype: fc.nat(255),
  hops: fc.nat(255),
  xid: fc.nat(0xffffffff),
  secs: fc.nat(0xffff),
  broadcast: fc.boolean(),
  ciaddr: address,
  yiaddr: address,
  siaddr: address,
  giaddr: address,
  chaddr: fc.uint8Array({ maxLength: 16 }),
  sname: words(63),
  file: words(127),
  options: fc
    .uniqueArray(
      fc.tuple(
        fc.integer({ min: 1, max: 254 }).filter((code) => code !== 52),
        fc.uint8Array({ maxLength: 300 }),
      ),
      { selector: ([code]) => code, maxLength: 3 },
    )
    .map((entries) => new Map(entries)),
});

describe('the DHCP codec', () => {
  it('reads the DISCOVER of an iPXE ROM as tcpdump does', () => {
    const packet = decodeDhcp(capture('dhcp/ipxe-rom-discover'));
    assert.equal(packet.xid, 0x2072286d);
    assert.equal(packet.secs, 4);
    assert.equal(packet.broadcast, false);
    assert.equal(readType(packet), messageType.discover);
    assert.deepEqual(readArchitectures(packet), [0]);
    assert.equal(Buffer.from(packet.options.get(option.userClass) ?? []).toString(), 'iPXE');
    assert.equal(packet.options.get(option.ipxe)?.length, 48);
    assert.equal(packet.options.get(option.clientUuid)?.length, 17);
  });

  it('reads the answers of dnsmasq as tcpdump does', () => {
    const offer = decodeDhcp(capture('dhcp/dnsmasq-offer'));
    assert.equal(offer.yiaddr, '10.77.0.88');
    assert.equal(readAddress(offer, option.serverIdentifier), '10.77.0.1');
    assert.equal(readAddress(offer, option.broadcastAddress), '10.77.0.255');
    assert.equal(serverShown(offer), '10.77.0.1');
    const proxy = decodeDhcp(capture('dhcp/dnsmasq-proxy-offer'));
    assert.equal(proxy.broadcast, true);
    assert.equal(proxy.options.get(option.vendorOptions)?.[0], 6);
    assert.equal(serverShown(proxy), undefined, 'a proxy gives out no addresses, and is no DHCP server');
  });

  it('writes every capture so that it reads the same', () => {
    const names = readdirSync(new URL('../fixtures/dhcp/', import.meta.url)).filter((name) => name.endsWith('.hex'));
    assert.ok(names.length >= 8);
    for (const name of names) {
      const packet = decodeDhcp(capture(`dhcp/${name.slice(0, -4)}`));
      assert.deepEqual(decodeDhcp(encodeDhcp(packet)), packet);
    }
  });

  it('joins long options, follows overloading, and tolerates a missing end', () => {
    const long = new Uint8Array(700).fill(7);
    const base = decodeDhcp(capture('dhcp/udhcpc-discover'));
    const bytes = encodeDhcp({ ...base, options: new Map([[43, long]]) });
    assert.deepEqual(decodeDhcp(bytes).options.get(43), long);
    const overloaded = encodeDhcp({ ...base, options: new Map() });
    overloaded.set([52, 1, 3, 255], 240);
    overloaded.set([66, 2, 65, 66, 255], 108);
    overloaded.set([12, 1, 67], 44);
    const read = decodeDhcp(overloaded);
    assert.deepEqual([...read.options.keys()], [52, 66, 12]);
    assert.deepEqual([read.file, read.sname], ['', '']);
  });

  it('gives back what was written', () => {
    fc.assert(
      fc.property(packets, (packet) => {
        const bytes = encodeDhcp(packet);
        assert.ok(bytes.length >= 300 && bytes.length <= 1472);
        const read = decodeDhcp(bytes);
        assert.deepEqual({ ...read, options: plain(read.options) }, { ...packet, options: plain(packet.options) });
      }),
      { numRuns: 2000 },
    );
  });

  it('survives 100,000 hostile messages: a packet no larger than its input, or a DhcpError', () => {
    const seeds = ['ipxe-rom-discover', 'undionly-discover', 'udhcpc-request', 'dnsmasq-ack', 'dnsmasq-proxy-offer'];
    const hostile = fc.oneof(
      fc.uint8Array({ maxLength: 1600 }),
      fc
        .tuple(
          fc.constantFrom(...seeds.map((name) => capture(`dhcp/${name}`))),
          fc.array(fc.tuple(fc.nat(420), fc.nat(255)), { maxLength: 12 }),
          fc.nat(420),
        )
        .map(([bytes, changes, length]) => {
          const copy = bytes.slice(0, Math.max(200, length));
          for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
          return copy;
        }),
    );
    let understood = 0;
    fc.assert(
      fc.property(hostile, (bytes) => {
        try {
          const packet = decodeDhcp(bytes);
          understood += 1;
          const held = [...packet.options.values()].reduce((sum, value) => sum + value.length, 0);
          assert.ok(held + packet.chaddr.length + packet.file.length + packet.sname.length <= bytes.length);
          classify(packet);
          serverShown(packet);
        } catch (error) {
          if (!(error instanceof DhcpError)) throw error;
        }
      }),
      { numRuns: 100_000 },
    );
    assert.ok(understood > 5000, `only ${understood} were close enough to real ones to be read`);
  });
});

function plain(options: ReadonlyMap<number, Uint8Array>): [number, string][] {
  return [...options].map(([code, value]) => [code, Buffer.from(value).toString('hex')]);
}
