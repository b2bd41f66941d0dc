import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { decodeTftp, encodeTftp, TftpFormatError, type TftpPacket } from '../../src/boot/tftp-packet.ts';
import { capture } from '../fixtures/hex.ts';

const word = fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 20 }).map((s) => s.replaceAll('\0', '_'));
const options = fc
  .dictionary(word, word, { maxKeys: 4 })
  .map((pairs) => new Map(Object.entries(pairs).map(([name, value]) => [name.toLowerCase(), value])));
const short = fc.nat(0xffff);
const packets: fc.Arbitrary<TftpPacket> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('read' as const, 'write' as const),
    file: word,
    mode: fc.constant('octet'),
    options,
  }),
  fc.record({ kind: fc.constant('data' as const), block: short, bytes: fc.uint8Array({ maxLength: 600 }) }),
  fc.record({ kind: fc.constant('ack' as const), block: short }),
  fc.record({ kind: fc.constant('error' as const), code: short, message: word }),
  fc.record({ kind: fc.constant('oack' as const), options: options.filter((map) => map.size > 0) }),
);

describe('the TFTP codec', () => {
  it('reads what real clients and dnsmasq send', () => {
    const rom = decodeTftp(capture('tftp/ipxe-rom-rrq'));
    assert.deepEqual(rom, {
      kind: 'read',
      file: 'undionly.kpxe',
      mode: 'octet',
      options: new Map([
        ['blksize', '1432'],
        ['tsize', '0'],
      ]),
    });
    const oack = decodeTftp(capture('tftp/dnsmasq-oack'));
    assert.deepEqual(oack, {
      kind: 'oack',
      options: new Map([
        ['blksize', '1432'],
        ['tsize', '74213'],
      ]),
    });
    const curl = decodeTftp(capture('tftp/curl-rrq'));
    assert.ok(curl.kind === 'read' && curl.options.has('blksize') && curl.options.has('timeout'));
    const error = decodeTftp(capture('tftp/dnsmasq-error'));
    assert.ok(error.kind === 'error' && error.code === 1 && error.message.includes('not found'));
    for (const name of ['ipxe-rom-rrq', 'busybox-rrq', 'dnsmasq-oack', 'dnsmasq-error']) {
      const bytes = capture(`tftp/${name}`);
      assert.deepEqual(Uint8Array.from(encodeTftp(decodeTftp(bytes))), bytes);
    }
  });

  it('gives back what was written', () => {
    fc.assert(
      fc.property(packets, (packet) => {
        // fast-check's records have no prototype.
        assert.deepEqual(decodeTftp(encodeTftp(packet)), { ...packet });
      }),
      { numRuns: 5000 },
    );
  });

  it('survives 100,000 hostile messages: a packet, or a TftpFormatError', () => {
    const rom = capture('tftp/ipxe-rom-rrq');
    const hostile = fc.oneof(
      fc.uint8Array({ maxLength: 700 }),
      fc.tuple(fc.nat(8), fc.uint8Array({ maxLength: 600 })).map(([op, rest]) => Uint8Array.of(0, op, ...rest)),
      fc.array(fc.tuple(fc.nat(42), fc.nat(255)), { maxLength: 6 }).map((changes) => {
        const copy = rom.slice();
        for (const [at, value] of changes) copy[at] = value;
        return copy;
      }),
    );
    let understood = 0;
    fc.assert(
      fc.property(hostile, (bytes) => {
        try {
          const packet = decodeTftp(bytes);
          understood += 1;
          if (packet.kind === 'data') assert.ok(packet.bytes.length <= bytes.length);
          if ('options' in packet) assert.ok(packet.options.size <= 16);
        } catch (error) {
          if (!(error instanceof TftpFormatError)) throw error;
        }
      }),
      { numRuns: 100_000 },
    );
    assert.ok(understood > 10_000, `only ${understood} were close enough to real ones to be read`);
  });
});
