import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { suite, test } from 'node:test';
import { overlayAddress, siteNetwork } from '../../src/fleet/overlay-address.ts';

const FLEET = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
const PEER = '12D3KooWGPqCDc2wzFBbWtGN6ZsSAkZyPZnZLHXJjXjtpRbaBCfi';

suite('overlay address', () => {
  test('is fd, 40 bits of the fleet, the site, 64 bits of the peer', () => {
    const digest = (of: string | Uint8Array) => createHash('sha256').update(of).digest('hex');
    const digits = `fd${digest(FLEET).slice(0, 10)}0102${digest(PEER).slice(0, 16)}`;
    const groups = overlayAddress(FLEET, 0x0102, PEER).split(':');
    assert.equal(groups.length, 8);
    assert.equal(groups.map((group) => group.padStart(4, '0')).join(''), digits);
  });

  test('lies in its site’s network, and in no other’s', () => {
    const prefix = (site: number) => siteNetwork(FLEET, site).replace(/::\/64$/, ':');
    assert.ok(overlayAddress(FLEET, 2, PEER).startsWith(prefix(2)));
    assert.ok(!overlayAddress(FLEET, 2, PEER).startsWith(prefix(1)));
    assert.notEqual(overlayAddress(Buffer.alloc(16), 2, PEER), overlayAddress(FLEET, 2, PEER));
  });

  test('there is none for what is no fleet id or no site’s number', () => {
    assert.throws(() => overlayAddress(Buffer.alloc(15), 1, PEER), RangeError);
    for (const number of [-1, 65_536, 1.5, Number.NaN]) assert.throws(() => siteNetwork(FLEET, number), RangeError);
  });
});
