import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseRange } from '../../src/gateway/byte-range.ts';

describe('parseRange', () => {
  it('reads the forms of RFC 9110 14.1.2', () => {
    const cases: [string | undefined, number, ReturnType<typeof parseRange>][] = [
      ['bytes=0-499', 10000, { start: 0, end: 500 }],
      ['bytes=500-', 10000, { start: 500, end: 10000 }],
      ['bytes=-500', 10000, { start: 9500, end: 10000 }],
      ['bytes=-20000', 10000, { start: 0, end: 10000 }],
      ['bytes=9999-99999', 10000, { start: 9999, end: 10000 }],
      ['Bytes= 1-1 ', 10, { start: 1, end: 2 }],
      ['bytes=10-', 10, 'unsatisfiable'],
      ['bytes=99999999999999999999-', 10, 'unsatisfiable'],
      ['bytes=0-99999999999999999999', 10, { start: 0, end: 10 }],
      ['bytes=-0', 10, 'unsatisfiable'],
      ['bytes=0-', 0, 'unsatisfiable'],
      ['bytes=-1', 0, 'whole'],
      ['bytes=5-4', 10, 'whole'],
      ['bytes=0-1,3-4', 10, 'whole'],
      ['bytes=', 10, 'whole'],
      ['bytes=-', 10, 'whole'],
      ['lines=0-1', 10, 'whole'],
      ['bytes=1.5-2', 10, 'whole'],
      ['bytes=0x1-2', 10, 'whole'],
      [undefined, 10, 'whole'],
    ];
    for (const [header, size, expected] of cases) assert.deepEqual(parseRange(header, size), expected, String(header));
  });

  it('gives a range inside the bytes, or none, for any header', () => {
    const part = fc.oneof(fc.nat(12).map(String), fc.constantFrom('', '-', ',', 'bytes=', '=', '9'.repeat(30), ' '));
    const header = fc.oneof(
      fc.string(),
      fc.array(part, { maxLength: 6 }).map((parts) => `bytes=${parts.join('')}`),
    );
    fc.assert(
      fc.property(header, fc.nat(10), (text, size) => {
        const range = parseRange(text, size);
        if (typeof range === 'string') return;
        assert.ok(range.start >= 0 && range.start < range.end && range.end <= size, text);
      }),
      { numRuns: 100_000 },
    );
  });
});
