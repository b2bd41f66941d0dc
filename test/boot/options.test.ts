import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type BootOptions, BootOptionsError, checkBootOptions } from '../../src/boot/options.ts';

const good: BootOptions = {
  mode: 'server',
  interface: 'eth0',
  channel: 'x',
  pool: { from: '10.0.0.9', to: '10.0.0.99' },
};

describe('boot options', () => {
  it('have defaults', () => {
    const { leaseSeconds, gatewayPort, dns, maxLoad } = checkBootOptions(good);
    assert.deepEqual(
      { leaseSeconds, gatewayPort, dns, maxLoad },
      { leaseSeconds: 3600, gatewayPort: 8080, dns: [], maxLoad: 64 },
    );
    assert.equal(checkBootOptions({ mode: 'off', channel: 'x' }).mode, 'off');
  });

  it('that contradict each other are refused by name', () => {
    const refused = (change: Partial<BootOptions>, option: keyof BootOptions, message: RegExp) =>
      assert.throws(
        () => checkBootOptions({ ...good, ...change }),
        (error) => error instanceof BootOptionsError && error.option === option && message.test(error.message),
      );
    refused({ pool: undefined }, 'pool', /is missing; a DHCP server needs/);
    refused({ interface: undefined }, 'interface', /mode server needs the interface/);
    refused({ pool: { from: '10.0.0.9', to: '10.0.0.8' } }, 'pool', /ends \(10\.0\.0\.8\) before it begins/);
    refused({ pool: { from: '10.0.0.0', to: '10.2.0.0' } }, 'pool', /131073 addresses/);
    refused({ router: 'gw' }, 'router', /no IPv4 address/);
    refused({ dns: ['1', '2'] }, 'dns', /IPv4/);
    refused({ leaseSeconds: 1 }, 'leaseSeconds', /from 120 to/);
    refused({ gatewayPort: 80.5 }, 'gatewayPort', /whole number/);
    refused({ channel: '../x' }, 'channel', /no channel name/);
  });
});
