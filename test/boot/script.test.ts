import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CommandLineError } from '../../src/boot/command-line.ts';
import type { BootRelease } from '../../src/boot/release.ts';
import { bootScript, ScriptError } from '../../src/boot/script.ts';

const release: BootRelease = {
  channel: 'production',
  version: 3,
  digest: 'd1',
  kernel: { cid: 'bafykernel', size: 1, sha256: 'aa' },
  initramfs: { cid: 'bafyinitramfs', size: 2, sha256: 'bb' },
  commandLine: 'console=ttyS0 from={{neighbour}}',
};
const neighbours = ['10.0.0.1', '10.0.0.2', 'fd00::3'].map((address) => ({ address, gatewayPort: 8080 }));
const mac = '52:54:00:12:34:56';
type World = (url: string) => boolean;

/** iPXE's `system()` and script runner, as far as our scripts use them; `serves` decides what a download does. */
function run(script: string, serves: World, { hasAddress = true } = {}) {
  const lines = script.split('\n');
  const settings = new Map<string, string>(hasAddress ? [['ip', '10.0.0.9']] : []);
  const fetched: string[] = [];
  const said: string[] = [];
  let kernel: string | undefined;
  let at = 0;
  const commands: Record<string, (args: string[]) => boolean | 'end'> = {
    '#!ipxe': () => true,
    echo: (args) => said.push(args.join(' ')) > 0,
    set: ([name = '', ...rest]) => Boolean(settings.set(name.split(':')[0] ?? '', rest.join(' '))),
    inc: ([name = '']) => Boolean(settings.set(name, String(Number(settings.get(name)) + 1))),
    isset: ([value]) => value !== undefined,
    iseq: ([a, b]) => a === b,
    dhcp: () => Boolean(settings.set('ip', '10.0.0.9')),
    goto: ([label]) => {
      at = lines.indexOf(`:${label}`);
      assert.notEqual(at, -1, `no label ${label}`);
      return true;
    },
    imgfree: () => true,
    sleep: () => true,
    kernel: (args) => {
      kernel = args.slice(5).join(' ');
      return download(args);
    },
    initrd: (args) => download(args),
    boot: () => 'end',
    reboot: () => 'end',
  };
  const download = ([, , , , url = '']: string[]) => fetched.push(url) > 0 && serves(url);
  for (let steps = 0; steps < 500; steps++) {
    const line = lines[at++];
    assert.notEqual(line, undefined, 'the script ran out: a dead prompt');
    if (line === undefined || line === '' || line.startsWith(':')) continue;
    const words = line
      .replaceAll(/\$\{([^}]+)\}/g, (_, name) => settings.get(name) ?? '')
      .split(' ')
      .filter(Boolean);
    let ok: boolean | 'end' = true;
    for (let start = 0, skip = false; start <= words.length; ) {
      const stop = words.findIndex((word, index) => index >= start && (word === '||' || word === '&&'));
      const [name, ...args] = words.slice(start, stop === -1 ? words.length : stop);
      if (name !== undefined && !skip) ok = commands[name]?.(args) ?? assert.fail(`iPXE knows no ${name}`);
      if (name === undefined) ok = true;
      if (ok === 'end') return { end: name, fetched, said, kernel };
      skip = words[stop] === '&&' ? !ok : ok;
      if (stop === -1) break;
      start = stop + 1;
    }
    assert.ok(ok, `the script stopped at: ${line}`);
  }
  return assert.fail('the script never ended');
}

describe('the boot script', () => {
  it('boots from the first neighbour when that delivers', () => {
    const { end, fetched, kernel, said } = run(bootScript({ release, neighbours, mac }), () => true);
    assert.equal(end, 'boot');
    assert.deepEqual(fetched, [
      'http://10.0.0.1:8080/artifact/bafykernel',
      'http://10.0.0.1:8080/artifact/bafyinitramfs',
    ]);
    assert.match(kernel ?? '', /^console=ttyS0 from=http:\/\/10\.0\.0\.1:8080 initrd=initramfs /);
    assert.ok(said.includes('bootmesh: initramfs from=http://10.0.0.1:8080'));
  });

  it('tries at least three for the kernel, and again for the initramfs, from the one that had the kernel on', () => {
    const script = bootScript({ release, neighbours, mac });
    const { end, fetched, kernel } = run(script, (url) => url.includes('[fd00::3]') || /2:8080.*initramfs/.test(url));
    assert.equal(end, 'boot');
    assert.deepEqual(
      fetched.map((url) => new URL(url).hostname),
      ['10.0.0.1', '10.0.0.2', '[fd00::3]', '[fd00::3]'],
    );
    assert.match(kernel ?? '', /bootmesh\.neighbours=http:\/\/\[fd00::3\]:8080,http:\/\/10\.0\.0\.1:8080,/);
    const died = run(script, (url) => url.endsWith('kernel') || url.includes('10.0.0.2'));
    assert.deepEqual(
      died.fetched.map((url) => new URL(url).hostname),
      ['10.0.0.1', '10.0.0.1', '10.0.0.2'],
    );
  });

  it('resets when nobody delivers, after three rounds over all', () => {
    for (const hasAddress of [true, false]) {
      const { end, fetched, said } = run(bootScript({ release, neighbours, mac }), () => false, { hasAddress });
      assert.equal(end, 'reboot');
      assert.equal(fetched.length, 9);
      assert.ok(said.includes('bootmesh: kernel failed from=http://10.0.0.2:8080'));
    }
  });

  it('comes back from a neighbour that lied about the initramfs to all others, in the next round', () => {
    let asked = 0;
    const { end } = run(bootScript({ release, neighbours, mac }), (url) => url.endsWith('kernel') || ++asked > 3);
    assert.equal(end, 'boot');
  });

  it('refuses values that could break out of it', () => {
    const one = (address: string, gatewayPort = 8080) => [{ address, gatewayPort }];
    const refused = (change: object) =>
      assert.throws(() => bootScript({ release, neighbours, mac, ...change }), ScriptError);
    refused({ mac: '52:54:00:12:34:56\nshell' });
    refused({ neighbours: one('10.0.0.1/x || shell') });
    refused({ neighbours: one('fe80::1%eth0') });
    refused({ neighbours: one('10.0.0.1', 0) });
    refused({ neighbours: [] });
    refused({ release: { ...release, channel: 'a\nshell' } });
    refused({ release: { ...release, kernel: { ...release.kernel, cid: 'x || shell' } } });
    refused({ release: { ...release, version: Number.NaN } });
    assert.throws(
      () => bootScript({ release: { ...release, commandLine: 'a || shell' }, neighbours, mac }),
      CommandLineError,
    );
  });
});
