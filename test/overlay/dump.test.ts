import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { DumpInvalid, parseDump } from '../../src/overlay/dump.ts';

/** As wg(8) describes it; what `wg` really prints is read in test/e2e/overlay.test.ts. */
const DUMP = `${[
  ['SECRETsecretSECRETsecretSECRETsecretSECRETse=', 'OwnOwnOwnOwnOwnOwnOwnOwnOwnOwnOwnOwnOwnOwnOw=', '51820', 'off'],
  ['PeerA=', '(none)', '(none)', '(none)', '0', '0', '0', 'off'],
  ['PeerB=', 'PSKpskPSK=', '[2001:db8::1]:51820', 'fd00::2/128,fd00:0:0:2::/64', '1795348484', '92', '180', '25'],
]
  .map((fields) => fields.join('\t'))
  .join('\n')}\n`;

suite('dump', () => {
  test('is read without what is secret', () => {
    const dump = parseDump(DUMP);
    assert.deepEqual(dump, {
      publicKey: 'OwnOwnOwnOwnOwnOwnOwnOwnOwnOwnOwnOwnOwnOwnOw=',
      listenPort: 51820,
      peers: [
        { publicKey: 'PeerA=', allowedIps: [], bytesIn: 0, bytesOut: 0 },
        {
          publicKey: 'PeerB=',
          endpoint: '[2001:db8::1]:51820',
          allowedIps: ['fd00:0:0:2::/64', 'fd00::2/128'],
          handshakeAt: 1795348484,
          bytesIn: 92,
          bytesOut: 180,
          keepalive: 25,
        },
      ],
    });
    assert.doesNotMatch(inspect(dump, { depth: 9 }), /secret|psk/i);
  });

  test('that is none is refused, whatever it is', () => {
    for (const text of ['', '\n', 'interface: wg0', DUMP.split('\n').slice(1).join('\n')]) {
      assert.throws(() => parseDump(text), DumpInvalid);
    }
    fc.assert(fc.property(fc.string(), (text) => assert.throws(() => parseDump(text), DumpInvalid)));
  });
});
