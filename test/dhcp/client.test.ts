import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { architecture, bestArchitecture } from '../../src/dhcp/architecture.ts';
import { classify, PROBE_CLASS } from '../../src/dhcp/client.ts';
import { messageType, option } from '../../src/dhcp/option.ts';
import { type DhcpPacket, decodeDhcp } from '../../src/dhcp/packet.ts';
import { buildNak, buildReply } from '../../src/dhcp/reply.ts';
import { probeDiscover } from '../../src/dhcp/role.ts';
import { capture } from '../fixtures/hex.ts';

const rom = decodeDhcp(capture('dhcp/ipxe-rom-discover'));
const server = '10.77.0.3';
const lease = { address: '10.77.0.60', seconds: 3600, netmask: '255.255.255.0', broadcast: '10.77.0.255', dns: [] };

function changed(changes: Readonly<Record<number, Uint8Array | undefined>>): DhcpPacket {
  const options = new Map(rom.options);
  for (const [code, value] of Object.entries(changes)) {
    if (value === undefined) options.delete(Number(code));
    else options.set(Number(code), value);
  }
  return { ...rom, options };
}
/** A machine whose ROM is no iPXE. */
const firmware = changed({ [option.userClass]: undefined, [option.ipxe]: undefined });

describe('clients', () => {
  it('are told apart by what they send', () => {
    assert.equal(classify(rom).kind, 'ipxe');
    assert.equal(classify(decodeDhcp(capture('dhcp/undionly-discover'))).kind, 'ipxe');
    assert.equal(classify(firmware).kind, 'pxe');
    assert.equal(classify(decodeDhcp(capture('dhcp/udhcpc-discover'))).kind, 'plain');
    assert.equal(classify(changed({ [option.architecture]: undefined })).kind, 'plain');
    assert.equal(classify(changed({ [option.ipxe]: Uint8Array.of(0x15, 1, 1) })).kind, 'pxe', 'an iPXE without HTTP');
    const own = changed({ [option.userClass]: Buffer.from('\x08bootmesh'), [option.ipxe]: undefined });
    assert.equal(classify(own).kind, 'ipxe');
    const http = { [option.vendorClass]: Buffer.from('HTTPClient:Arch:00016'), [option.userClass]: undefined };
    assert.equal(classify(changed(http)).kind, 'http');
    assert.equal(classify(probeDiscover(Uint8Array.of(2, 0, 0, 0, 0, 1), 7)).kind, 'probe');
    assert.equal(PROBE_CLASS, 'bootmesh-probe');
  });

  it('are ranked by their UUID when it is a real one', () => {
    assert.equal(classify(rom).key, '52:54:00:aa:bb:01', 'QEMU sends zeros for every machine');
    const uuid = Uint8Array.from({ length: 17 }, (_, index) => index);
    assert.equal(classify(changed({ [option.clientUuid]: uuid })).key, '0102030405060708090a0b0c0d0e0f10');
    assert.deepEqual(classify(changed({ [option.clientUuid]: uuid })).uuid, uuid);
  });

  it('have an architecture with a name, and only x64 BIOS has a first stage so far', () => {
    assert.equal(architecture(7).name, 'x64 UEFI');
    assert.equal(architecture(41).name, 'Raspberry Pi');
    assert.equal(architecture(999).name, 'unassigned architecture 999');
    assert.equal(bestArchitecture([7, 0])?.code, 0);
    assert.equal(bestArchitecture([11])?.firstStage, undefined);
  });
});

describe('replies', () => {
  const offer = (request: DhcpPacket, facts: Partial<Parameters<typeof buildReply>[2]>) =>
    buildReply(request, classify(request), { type: messageType.offer, server, rank: 1, ...facts });

  it('send BIOS firmware to TFTP, past the boot server discovery', () => {
    const reply = offer(firmware, { boot: { name: 'undionly.kpxe' }, lease });
    assert.deepEqual(
      [reply.yiaddr, reply.siaddr, reply.sname, reply.file],
      [lease.address, server, server, 'undionly.kpxe'],
    );
    assert.equal(
      Buffer.from(reply.options.get(option.vendorOptions) ?? [])
        .toString('hex')
        .slice(0, 6),
      '060108',
    );
    assert.equal(text(reply, option.vendorClass), 'PXEClient');
    assert.equal(text(reply, option.bootFile), 'undionly.kpxe\0');
    assert.deepEqual(reply.options.get(option.clientUuid), firmware.options.get(option.clientUuid));
    assert.equal(reply.broadcast, true);
  });

  it('send iPXE to the script, and tell it not to wait for a proxy when there is an address', () => {
    const url = 'http://10.77.0.3:8080/boot/production.ipxe?mac=52-54-00-aa-bb-01';
    const full = offer(rom, { boot: { url }, lease });
    assert.deepEqual([...(full.options.get(option.ipxe) ?? [])], [1, 1, 9, 176, 1, 1]);
    assert.equal(full.options.has(option.vendorClass), false, 'else iPXE would take it for a proxy, and ask 4011');
    const proxy = offer(rom, { boot: { url } });
    assert.deepEqual([...(proxy.options.get(option.ipxe) ?? [])], [1, 1, 9]);
    assert.deepEqual([proxy.yiaddr, proxy.siaddr, proxy.file], ['0.0.0.0', server, url]);
    assert.equal(text(proxy, option.vendorClass), 'PXEClient');
    assert.equal(proxy.options.has(option.leaseSeconds), false);
    assert.equal(proxy.options.has(option.vendorOptions), false);
  });

  it('carry a URL that does not fit the fixed header in option 67 alone', () => {
    const url = `http://10.77.0.3:8080/boot/${'c'.repeat(120)}.ipxe`;
    const reply = offer(rom, { boot: { url } });
    assert.equal(reply.file, '');
    assert.equal(text(reply, option.bootFile), `${url}\0`);
  });

  it('refuse with a NAK that is broadcast and carries no address', () => {
    const nak = buildNak(rom, server, 'not yours');
    assert.deepEqual([nak.options.get(option.messageType)?.[0], nak.broadcast, nak.yiaddr], [6, true, '0.0.0.0']);
  });
});

function text(packet: DhcpPacket, code: number): string {
  return Buffer.from(packet.options.get(code) ?? []).toString('latin1');
}
