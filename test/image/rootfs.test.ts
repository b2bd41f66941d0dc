import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { buildRootfs } from '../../src/image/rootfs.ts';

const options = { skip: existsSync('/usr/bin/mksquashfs') ? false : 'needs squashfs-tools' };
const signal = AbortSignal.timeout(60_000);
const files = [
  { path: 'usr/sbin/init', mode: 0o755, data: '#!/bin/sh\n' },
  { path: 'etc/big', mode: 0o640, data: Buffer.alloc(300_000, 'abc') },
  { path: 'etc/link', target: 'big' },
];

test('two builds in different places and times are the same image', options, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'bm-rootfs-'));
  try {
    const build = async (name: string, compression: 'none' | 'zstd') => {
      const cache = join(directory, `cache-${name}`);
      return await buildRootfs({ cache, packages: [], files, compression, output: join(directory, name) }, { signal });
    };
    const first = await build('first', 'none');
    const second = await build('second', 'none');
    const image = await readFile(first.output);
    assert.deepEqual(image, await readFile(second.output));
    assert.equal(image.length % 4096, 0);
    // Uncompressed means that the bytes of a file are found as they are: that is what lets versions share chunks.
    assert.ok(image.includes(Buffer.alloc(100_000, 'abc')));
    assert.ok((await build('small', 'zstd')).size < first.size / 10);
    const listing = execFileSync('unsquashfs', ['-lln', first.output], { encoding: 'utf8' });
    assert.match(listing, /^-rwxr-xr-x 0\/0 +10 1970-01-01 00:00 squashfs-root\/usr\/sbin\/init$/m);
    assert.match(listing, /^-rw-r----- 0\/0 +300000 1970-01-01 00:00 squashfs-root\/etc\/big$/m);
    assert.match(listing, /squashfs-root\/sbin -> usr\/sbin$/m);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('a file that would land outside of the image is refused', options, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'bm-rootfs-'));
  try {
    const outside = [{ path: '../../evil', mode: 0o644, data: '' }];
    const output = join(directory, 'image');
    await assert.rejects(
      buildRootfs({ cache: directory, packages: [], files: outside, output }, { signal }),
      TypeError,
    );
    assert.equal(existsSync(output), false);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
