import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { chunkCid, DAG_PB, MAX_CHUNK_BYTES, RAW } from '../../src/content/chunk.ts';
import { cidOf, decodeHeader, encodeHeader } from '../../src/store/pack-record.ts';

const bootmesh = Buffer.from('bootmesh');
const HASH = 'd6faeb07f71e234a93737101063585380cdf61e988d253934903172841d48b1d';
const plain = (bytes: Uint8Array) => ({ encoding: 'plain', bytes }) as const;

describe('a pack record header', () => {
  it('is what it was on disk before', () => {
    const header = encodeHeader(chunkCid(bootmesh), plain(bootmesh), 8);
    const fixed = ['424d5231', '01', '02', '0022', '00000055', '00000008', '00000008', '1220'].join('');
    assert.equal(header.toString('hex'), `${fixed}${HASH}bfc95a69bbdaa921`);
  });

  it('of the first version, without a checksum of the payload, is read', () => {
    const fixed = ['424d5231', '01', '00', '0022', '00000055', '00000008', '00000008', '1220'].join('');
    const header = decodeHeader(Buffer.from(`${fixed}${HASH}7cc24aaf`, 'hex')) ?? assert.fail();
    assert.ok(cidOf(header)?.equals(chunkCid(bootmesh)));
    const { multihash: _multihash, digest: _digest, ...rest } = header;
    assert.deepEqual(rest, {
      codec: RAW,
      headerBytes: 58,
      encoding: 'plain',
      storedBytes: 8,
      plainBytes: 8,
      crc: undefined,
    });
  });

  it('reads back at any offset', () => {
    const bytes = fc.uint8Array({ maxLength: 64 });
    fc.assert(
      fc.property(bytes, fc.nat(1024 * 1024 - 65), fc.nat(50), fc.boolean(), (stored, more, offset, zstd) => {
        const cid = chunkCid(stored, DAG_PB);
        const encoding = zstd ? 'zstd' : 'plain';
        const plainBytes = stored.length + (zstd ? more + 1 : 0);
        const header = encodeHeader(cid, { encoding, bytes: stored }, plainBytes);
        const read = decodeHeader(Buffer.concat([Buffer.alloc(offset), header, Buffer.alloc(7)]), offset);
        assert.ok(read && cidOf(read)?.equals(cid));
        const { digest, multihash: _multihash, ...rest } = read;
        assert.ok(digest.equals(cid.multihash.digest));
        assert.deepEqual(rest, {
          codec: DAG_PB,
          headerBytes: header.length,
          encoding,
          storedBytes: stored.length,
          plainBytes,
          crc: crc32(stored),
        });
      }),
    );
  });

  it('is refused when it says that a chunk is larger than one may be, or grew by compression', () => {
    const bytes = Buffer.alloc(10);
    const header = (plainBytes: number) => encodeHeader(chunkCid(bytes), { encoding: 'zstd', bytes }, plainBytes);
    assert.ok(decodeHeader(header(MAX_CHUNK_BYTES)));
    for (const size of [MAX_CHUNK_BYTES + 1, 10, 9]) assert.equal(decodeHeader(header(size)), undefined);
  });

  it('is refused when anything in it changed or is missing', () => {
    const header = encodeHeader(chunkCid(bootmesh), plain(bootmesh), 8);
    for (let i = 0; i < header.length; i++) {
      assert.equal(decodeHeader(header.subarray(0, i)), undefined, `${i} bytes`);
      for (const bit of [1, 16, 128]) {
        const wrong = Buffer.from(header);
        wrong[i] = (wrong[i] as number) ^ bit;
        assert.equal(decodeHeader(wrong), undefined, `byte ${i}`);
      }
    }
  });

  it('survives any bytes', () => {
    const magic = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.concat([Buffer.from('BMR1'), bytes]));
    fc.assert(
      fc.property(magic, (bytes) => assert.equal(decodeHeader(bytes), undefined)),
      { numRuns: 20_000 },
    );
  });
});
