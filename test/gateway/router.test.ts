import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Refusal } from '../../src/gateway/refusal.ts';
import { type Route, Router } from '../../src/gateway/router.ts';

const route = (path: string, method?: 'POST'): Route => ({ path, ...(method && { method }), handle: async () => {} });
const router = new Router([
  route('/artifact/:cid'),
  route('/artifact/:cid/pieces'),
  route('/boot/*'),
  route('/operations/:name', 'POST'),
]);
const status = (code: number) => (error: unknown) => error instanceof Refusal && error.status === code;

describe('router', () => {
  it('takes the route whose path fits, in origin or absolute form, query ignored', () => {
    for (const target of ['/artifact/abc', '/artifact/abc?x=1', 'http://[::1]:8080/artifact/abc', '/artifact/%61bc']) {
      assert.deepEqual(router.match('GET', target).params, { cid: 'abc' }, target);
    }
    assert.equal(router.match('HEAD', '/artifact/abc/pieces').route.path, '/artifact/:cid/pieces');
    assert.deepEqual(router.match('GET', '/boot/a/b.ipxe').params, { '*': 'a/b.ipxe' });
  });

  it('says what is wrong with the rest', () => {
    assert.throws(() => router.match('GET', '/artifact'), status(404));
    assert.throws(() => router.match('GET', '/artifact//pieces'), status(404));
    assert.throws(() => router.match('GET', '/artifact/a/b'), status(404));
    assert.throws(() => router.match('POST', '/artifact/a'), { status: 405, headers: { Allow: 'GET, HEAD' } });
    assert.throws(() => router.match('GET', '/operations/gc'), { status: 405, headers: { Allow: 'POST' } });
    for (const target of ['*', '', 'artifact/a', '/artifact/%zz', 'https://x/artifact/a']) {
      assert.throws(() => router.match('GET', target), status(400), target);
    }
    assert.throws(() => router.match('GET', `/boot/${'a'.repeat(3000)}`), status(414));
    assert.throws(() => new Router([route('/a/*/b')]), RangeError);
  });

  it('never lets a step up, a separator or a control character into a parameter', () => {
    for (const evil of ['..', '%2e%2e', '.', 'a%2fb', 'a%5cb', 'a\\b', 'a%00', '%0d%0a', '..%2f..%2fetc%2fpasswd']) {
      assert.throws(() => router.match('GET', `/boot/x/${evil}`), status(400), evil);
      assert.throws(() => router.match('GET', `/artifact/${evil}`), status(400), evil);
    }
    const pieces = fc.constantFrom(
      '/',
      '.',
      '..',
      '%',
      '%2e',
      '%2f',
      '%5c',
      '%00',
      '\\',
      '?',
      '#',
      'a',
      'boot',
      'artifact',
    );
    const target = fc.oneof(
      fc.array(pieces, { maxLength: 12 }).map((parts) => `/boot/${parts.join('')}`),
      fc.string(),
    );
    fc.assert(
      fc.property(target, (text) => {
        try {
          const values = Object.values(router.match('GET', text).params).flatMap((value) => value.split('/'));
          // biome-ignore lint/suspicious/noControlCharactersInRegex: they must not be there
          assert.ok(values.every((value) => value !== '..' && value !== '.' && !/[\u0000-\u001f\u007f\\]/.test(value)));
        } catch (error) {
          if (!(error instanceof Refusal)) throw error;
        }
      }),
      { numRuns: 100_000 },
    );
  });
});
