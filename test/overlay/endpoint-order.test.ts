import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { inOrderOfReach } from '../../src/overlay/endpoint-order.ts';

suite('endpoints in order of reach', () => {
  test('are those of a network that we are on, then public ones, then private ones of elsewhere', () => {
    const endpoints = [
      '10.77.9.1:51820',
      '[fd12::1]:51820',
      '198.51.100.7:51820',
      '10.99.0.1:51820',
      '[2001:db8::7]:1',
    ];
    assert.deepEqual(inOrderOfReach(endpoints, ['10.99.0.3/24', '192.0.2.9/24', 'fe80::1/64']), [
      '10.99.0.1:51820',
      '198.51.100.7:51820',
      '[2001:db8::7]:1',
      '10.77.9.1:51820',
      '[fd12::1]:51820',
    ]);
  });

  test('are all there, whatever they are', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.string(), fc.ipV4(), fc.ipV6())),
        fc.array(fc.string()),
        (endpoints, networks) => {
          assert.deepEqual(inOrderOfReach(endpoints, networks).toSorted(), endpoints.toSorted());
        },
      ),
    );
  });
});
