import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, readlink, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type CpioEntry, CpioError, writeCpio } from '../../src/image/cpio.ts';

const ENTRIES: readonly CpioEntry[] = [
  { kind: 'file', path: 'init', mode: 0o755, data: Buffer.from('#!/bin/sh\n') },
  { kind: 'file', path: 'etc/deep/er/name', mode: 0o600, data: Buffer.alloc(4099, 7) },
  { kind: 'file', path: 'empty', mode: 0o644, data: new Uint8Array(0) },
  { kind: 'link', path: 'sbin/init', target: '../init' },
  { kind: 'directory', path: 'proc', mode: 0o555 },
];

/** One file "a" with the byte "x", worked out by hand from the kernel's buffer-format.rst. */
const GOLDEN = [
  ...['070701', '00000001', '000081a4', '00000000', '00000000', '00000001', '00000000', '00000001'],
  ...['00000000', '00000000', '00000000', '00000000', '00000002', '00000000', 'a\0', 'x\0\0\0'],
  ...['070701', '00000000', '00000000', '00000000', '00000000', '00000001', '00000000', '00000000'],
  ...['00000000', '00000000', '00000000', '00000000', '0000000b', '00000000', 'TRAILER!!!\0', '\0\0\0'],
].join('');

test('an archive of one file is, byte for byte, what the format says', () => {
  const archive = writeCpio([{ kind: 'file', path: 'a', mode: 0o644, data: Buffer.from('x') }]);
  assert.equal(Buffer.from(archive).toString('latin1'), GOLDEN);
});

test('the order in which members are handed in does not matter', () => {
  assert.deepEqual(writeCpio(ENTRIES), writeCpio(ENTRIES.toReversed()));
});

test('paths that leave the root, or run through a file, are refused', () => {
  for (const path of ['/etc/passwd', '../x', 'a/../b', 'a//b', '', 'TRAILER!!!', 'a\0b', 'x'.repeat(5000)]) {
    assert.throws(() => writeCpio([{ kind: 'directory', path, mode: 0o755 }]), CpioError, JSON.stringify(path));
  }
  const through: CpioEntry[] = [
    { kind: 'link', path: 'a', target: 'b' },
    { kind: 'directory', path: 'a/b', mode: 0o755 },
  ];
  assert.throws(() => writeCpio(through), CpioError);
});

test('the real cpio unpacks what went in', { skip: existsSync('/usr/bin/cpio') ? false : 'needs cpio' }, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'bm-cpio-'));
  try {
    execFileSync('cpio', ['-i', '--quiet', '-d'], { cwd: directory, input: writeCpio(ENTRIES) });
    for (const entry of ENTRIES) {
      const path = join(directory, entry.path);
      if (entry.kind === 'file') assert.deepEqual(await readFile(path), Buffer.from(entry.data));
      if (entry.kind === 'link') assert.equal(await readlink(path), entry.target);
      if (entry.kind === 'file' || entry.kind === 'directory') {
        const { mode } = await stat(path);
        assert.equal(mode & 0o777, entry.mode, entry.path);
      }
    }
    assert.ok((await stat(join(directory, 'etc/deep/er'))).isDirectory());
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
