import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, test } from 'node:test';
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { buildInitramfs, InitramfsError } from '../../src/image/initramfs.ts';
import { ModuleError } from '../../src/image/kernel-modules.ts';

const missing = ['/bin/busybox', '/usr/bin/signify-openbsd', '/usr/bin/cpio'].filter((file) => !existsSync(file));
const options = { skip: missing.length === 0 ? false : `needs ${missing.join(', ')}` };
const signal = AbortSignal.timeout(60_000);
const key = `untrusted comment: fleet\n${Buffer.concat([Buffer.from('Ed'), Buffer.alloc(40, 1)]).toString('base64')}\n`;
let directory: string;
let modules: string;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'bm-initramfs-'));
  modules = join(directory, 'modules');
  await mkdir(join(modules, 'fs'), { recursive: true });
  const names = ['loop', 'squashfs', 'overlay', 'virtio_net'];
  await writeFile(join(modules, 'fs/e1000.ko.gz'), gzipSync('module e1000'));
  await writeFile(join(modules, 'fs/igb.ko.zst'), zstdCompressSync('module igb'));
  await writeFile(join(modules, 'fs/tg3.ko.xz'), execFileSync('xz', ['-c'], { input: 'module tg3' }));
  for (const name of names) await writeFile(join(modules, `fs/${name}.ko`), `module ${name}`);
  await writeFile(
    join(modules, 'modules.dep'),
    `${names.map((name) => `fs/${name}.ko:\n`).join('')}fs/e1000.ko.gz:\nfs/igb.ko.zst:\nfs/tg3.ko.xz:\n`,
  );
  await writeFile(join(modules, 'modules.builtin'), 'kernel/net/packet/af_packet.ko\n');
});
after(() => rm(directory, { recursive: true, force: true }));

test('the same inputs give the same bytes, which hold the init, the key and what they need', options, async () => {
  const input = { modules, ticketKeys: [key] };
  const first = await buildInitramfs({ ...input, output: join(directory, 'a') }, { signal });
  await buildInitramfs({ ...input, output: join(directory, 'b') }, { signal });
  const gz = await buildInitramfs({ ...input, output: join(directory, 'c'), compression: 'gzip' }, { signal });
  const bytes = await readFile(first.output);
  assert.deepEqual(bytes, await readFile(join(directory, 'b')));
  assert.equal(bytes.length, first.size);
  const archive = zstdDecompressSync(bytes);
  assert.deepEqual(archive, gunzipSync(await readFile(gz.output)));
  const listing = execFileSync('cpio', ['-it', '--quiet'], { input: archive, encoding: 'utf8' }).split('\n');
  const libraries = execFileSync('ldd', ['/usr/bin/signify-openbsd'], { encoding: 'utf8' });
  const wanted = [...libraries.matchAll(/(\/\S+) \(0x/g)].map((match) => String(match[1]).slice(1));
  assert.ok(wanted.length >= 3);
  for (const path of [
    'init',
    'bin/busybox',
    'etc/bootmesh/keys/0.pub',
    'lib/modules/fs/overlay.ko',
    'dev/console',
    ...wanted,
  ]) {
    assert.ok(listing.includes(path), `${path} is inside`);
  }
  const unpacked = join(directory, 'unpacked');
  await mkdir(unpacked);
  execFileSync('cpio', ['-id', '--quiet', '--no-absolute-filenames', 'lib/modules/*', 'etc/*'], {
    cwd: unpacked,
    input: archive,
  });
  const load = (await readFile(join(unpacked, 'etc/bootmesh/modules'), 'utf8')).trim().split('\n');
  assert.equal(load.length, 7);
  for (const path of load) {
    assert.equal(await readFile(join(unpacked, path), 'utf8'), `module ${basename(path, '.ko')}`, 'stored unpacked');
  }
  assert.ok(first.missing.includes('e1000e') && !first.missing.includes('af_packet'));
});

test('keys that signify would not read, missing modules and a dynamic busybox are refused', options, async () => {
  const output = join(directory, 'never');
  const build = (changes: object) => buildInitramfs({ modules, ticketKeys: [key], output, ...changes }, { signal });
  const bad = (code: string) => (error: unknown) => error instanceof InitramfsError && error.code === code;
  await assert.rejects(build({ ticketKeys: [] }), bad('BAD_KEY'));
  await assert.rejects(build({ ticketKeys: ['untrusted comment: x\nAAAA\n'] }), bad('BAD_KEY'));
  await assert.rejects(build({ ticketKeys: [`${key}; reboot`] }), bad('BAD_KEY'));
  await assert.rejects(build({ busybox: '/usr/bin/signify-openbsd' }), bad('NOT_STATIC'));
  await assert.rejects(build({ modules: '/nowhere' }), bad('MISSING_FILE'));
  await assert.rejects(build({ extraModules: ['nvme'] }), (error) => {
    return error instanceof ModuleError && error.modules.includes('nvme');
  });
  assert.equal(existsSync(output), false);
});
