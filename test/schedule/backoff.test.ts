import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BACKOFF_DEFAULTS, backoff } from '../../src/schedule/backoff.ts';

test('back-off doubles up to its limit, half of it at random', () => {
  const { first, longest } = BACKOFF_DEFAULTS;
  assert.equal(
    backoff(0, () => 1),
    first,
  );
  assert.equal(
    backoff(3, () => 1),
    8 * first,
  );
  assert.equal(
    backoff(3, () => 0),
    4 * first,
  );
  assert.equal(
    backoff(1000, () => 1),
    longest,
  );
});
