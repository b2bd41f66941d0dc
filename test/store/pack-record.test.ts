import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { chunkCid, DAG_PB } from '../../src/content/chunk.ts';
import { decodeHeader, encodeHeader } from '../../src/store/pack-record.ts';

describe('a pack record header', () => {
  it('is what it was on disk before', () => {
    const header = encodeHeader(chunkCid(Buffer.from('bootmesh')), 8);
    const hash = 'd6faeb07f71e234a93737101063585380cdf61e988d253934903172841d48b1d';
    const fixed = ['424d5231', '01', '00', '0022', '00000055', '00000008', '00000008', '1220'].join('');
    assert.equal(header.toString('hex'), `${fixed}${hash}7cc24aaf`);
  });

  it('reads back at any offset', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.nat(1024 * 1024), fc.nat(50), (bytes, size, offset) => {
        const cid = chunkCid(bytes, DAG_PB);
        const header = encodeHeader(cid, size);
        const read = decodeHeader(Buffer.concat([Buffer.alloc(offset), header, Buffer.alloc(7)]), offset);
        assert.ok(read?.cid.equals(cid));
        assert.deepEqual([read?.storedBytes, read?.headerBytes], [size, header.length]);
      }),
    );
  });

  it('is refused when anything in it changed or is missing', () => {
    const header = encodeHeader(chunkCid(Buffer.from('x')), 1);
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
