import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatRate, formatSize, parseRate, parseSize } from '../../src/fleet/quantity.ts';

test('rates are decimal bits per second, sizes follow their unit', () => {
  assert.equal(parseRate('20Mbit'), 20_000_000);
  assert.equal(parseRate('1.5 Gbit/s'), 1_500_000_000);
  assert.equal(parseRate('800kbit'), 800_000);
  assert.equal(parseSize('1GiB'), 1_073_741_824);
  assert.equal(parseSize('20MB'), 20_000_000);
  assert.equal(parseSize('7B'), 7);
});

test('a number without unit, an unknown unit, or a rate for a size means nothing', () => {
  for (const text of ['', '20', 'Mbit', '-1Mbit', '1e3Mbit', '20 MB', '1Mbit/h', '1constr', `${'9'.repeat(15)}Gbit`]) {
    assert.equal(parseRate(text), undefined, text);
  }
  for (const text of ['1Mbit', '1GiB/s', 'GiB', '1.2.3GiB', ' 1GiB']) assert.equal(parseSize(text), undefined, text);
});

test('what is formatted reads back as the same number', () => {
  fc.assert(
    fc.property(fc.nat(1e15), (value) => {
      assert.equal(parseRate(formatRate(value)), value);
      assert.equal(parseSize(formatSize(value)), value);
    }),
  );
  assert.equal(formatRate(20_000_000), '20Mbit');
  assert.equal(formatSize(1536 * 1024), '1536KiB');
});
