import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { ConfigError, type ConfigInput, loadConfig } from '../../src/agent/config.ts';

describe('loadConfig', () => {
  let directory = '';
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bm-config-'));
  });
  after(() => rm(directory, { recursive: true }));

  const written = async (text: string) => {
    const file = join(directory, 'agent.yaml');
    await writeFile(file, text);
    return file;
  };

  it('needs nothing', async () => {
    const config = await loadConfig();
    assert.equal(config.data, '/var/lib/bootmesh');
    assert.equal(config.boot.mode, 'off');
  });

  it('puts flags over environment over file, setting by setting', async () => {
    const file = await written('data: store\nchannels: [testing]\nlog: { level: warn, file: a.log }\n');
    const env = { BOOTMESH_LOG_LEVEL: 'error', BOOTMESH_CHANNELS: 'testing, production' };
    const config = await loadConfig({ file, env, flags: { log: { level: 'debug' } } });
    assert.equal(config.data, join(directory, 'store'), 'paths are relative to the file');
    assert.deepEqual(config.channels, ['testing', 'production']);
    assert.deepEqual(config.log, { level: 'debug', file: 'a.log' });
  });

  it('reads sizes with units', async () => {
    const { store } = await loadConfig({ flags: { store: { high: '1.5GiB', low: 1024 } } });
    assert.deepEqual(store, { high: 1.5 * 2 ** 30, low: 1024 });
    const shares = await loadConfig({ flags: { store: { high: '62.5%', low: '500MiB' } } });
    assert.deepEqual(shares.store, { high: { share: 0.625 }, low: 500 * 2 ** 20 });
  });

  it('reads rates in bits and in bytes, and means bytes per second', async () => {
    const rates = { down: '20mbit', up: '2.5MB/s', uplink: { down: '800 kbit/s' } };
    const config = await loadConfig({ flags: { rates }, env: { BOOTMESH_RATES_UP: '1MiB/s' } });
    assert.deepEqual(config.rates, { down: 2_500_000, up: 2_500_000, uplink: { down: 100_000 } });
    assert.equal((await loadConfig({ env: { BOOTMESH_RATES_UP: '1MiB/s' } })).rates.up, 2 ** 20);
  });

  it('reads hours, one or several', async () => {
    const one = await loadConfig({ flags: { background: { hours: '22:00-06:00' } } });
    assert.deepEqual(one.background, { hours: ['22:00-06:00'] });
    const env = { BOOTMESH_BACKGROUND_HOURS: 'Mon-Fri 22:00-06:00, Sat 00:00-24:00' };
    const several = await loadConfig({ env, flags: { background: { timezone: 'Europe/Berlin' } } });
    assert.deepEqual(several.background, {
      hours: ['Mon-Fri 22:00-06:00', 'Sat 00:00-24:00'],
      timezone: 'Europe/Berlin',
    });
  });

  const faults: [name: string, flags: unknown, message: RegExp][] = [
    ['an unknown setting', { swram: {} }, /swram/],
    ['a wrong size', { store: { high: '3GB' } }, /store\.high: is a size in bytes, KiB/],
    ['a wrong address', { gateway: { listen: ['8080'] } }, /gateway\.listen\.0: is ADDRESS:PORT/],
    ['boot without an interface', { boot: { mode: 'proxy' } }, /boot\.interface: is missing/],
    ['a DHCP server without a pool', { boot: { mode: 'server', interface: 'eth0' } }, /boot\.pool: is missing/],
    ['a boot channel nobody follows', { boot: { channel: 'qa' } }, /qa is not among the followed channels/],
    ['a rate without a unit', { rates: { down: '20' } }, /rates\.down: is a rate from 64kbit/],
    ['a rate of next to nothing', { rates: { uplink: { up: '1kbit' } } }, /rates\.uplink\.up: is a rate/],
    ['hours that are none', { background: { hours: ['22-6'] } }, /background\.hours.*HH:MM/s],
    ['a zone nobody knows', { background: { timezone: 'Europe/Nowhere' } }, /background\.timezone: is the name/],
    ['more than the whole disk', { store: { high: '120%' } }, /store\.high: is a size/],
    ['shares the wrong way round', { store: { high: '50%', low: '60%' } }, /store\.low: must be below/],
    ['watermarks the wrong way round', { store: { high: 1, low: 2 } }, /store\.low: must be below/],
  ];
  for (const [name, flags, message] of faults) {
    it(`refuses ${name} and says where`, async () => {
      await assert.rejects(loadConfig({ flags: flags as ConfigInput }), (error: Error) => {
        assert.ok(error instanceof ConfigError);
        assert.match(error.message, message);
        return true;
      });
    });
  }

  it('refuses a file that is missing or no YAML', async () => {
    await assert.rejects(loadConfig({ file: join(directory, 'none.yaml') }), /none\.yaml cannot be read/);
    await assert.rejects(loadConfig({ file: await written('a: [') }), /is no YAML/);
    await assert.rejects(loadConfig({ file: await written('- a') }), /must hold settings/);
  });

  it('answers any YAML with a configuration or a ConfigError', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string(), fc.json()), async (text) => {
        await loadConfig({ file: await written(text) }).catch((error) => assert.ok(error instanceof ConfigError));
      }),
      { numRuns: 300 },
    );
  });
});
