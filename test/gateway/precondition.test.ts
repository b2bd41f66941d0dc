import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkPreconditions, rangeAllowed } from '../../src/gateway/precondition.ts';

const etag = '"abc"';

describe('preconditions', () => {
  it('follow RFC 9110 13.1: If-Match strongly and first, If-None-Match weakly', () => {
    const cases: [Record<string, string>, ReturnType<typeof checkPreconditions>][] = [
      [{}, 'go'],
      [{ 'if-match': '"abc"' }, 'go'],
      [{ 'if-match': '"x", "abc"' }, 'go'],
      [{ 'if-match': '*' }, 'go'],
      [{ 'if-match': 'W/"abc"' }, 'failed'],
      [{ 'if-match': '"abcd"' }, 'failed'],
      [{ 'if-match': 'abc' }, 'failed'],
      [{ 'if-none-match': '"abc"' }, 'not-modified'],
      [{ 'if-none-match': 'W/"abc"' }, 'not-modified'],
      [{ 'if-none-match': '*' }, 'not-modified'],
      [{ 'if-none-match': '"x,\\"abc"' }, 'go'],
      [{ 'if-match': '"x"', 'if-none-match': '"abc"' }, 'failed'],
    ];
    for (const [headers, expected] of cases) {
      assert.equal(checkPreconditions(headers, etag), expected, JSON.stringify(headers));
    }
  });

  it('allow a range unless If-Range is another tag, a weak one or a date', () => {
    assert.ok(rangeAllowed({}, etag));
    assert.ok(rangeAllowed({ 'if-range': '"abc"' }, etag));
    assert.ok(!rangeAllowed({ 'if-range': 'W/"abc"' }, etag));
    assert.ok(!rangeAllowed({ 'if-range': 'Wed, 21 Oct 2026 07:28:00 GMT' }, etag));
  });
});
