import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { debianPackages, unpackPackages } from '../../src/image/debian-packages.ts';

const options = { skip: existsSync('/usr/bin/apt-get') ? false : 'needs apt-get' };

test('what a name resolves to is fetched once; afterwards neither apt nor the network is needed', options, async () => {
  const cache = await mkdtemp(join(tmpdir(), 'bm-debian-'));
  const signal = AbortSignal.timeout(120_000);
  const path = process.env['PATH'];
  try {
    const said: string[] = [];
    const onProgress = (sentence: string): void => void said.push(sentence);
    const first = await debianPackages(['libmd0'], true, { cache, onProgress }, { signal });
    const names = first.map(({ file }) => file.split('_')[0]);
    assert.ok(names.includes('libmd0') && names.includes('libc6'), `dependencies come along: ${names}`);
    assert.ok(first.every(({ sha256 }) => /^[0-9a-f]{64}$/.test(sha256)));
    process.env['PATH'] = '/nowhere';
    assert.deepEqual(await debianPackages(['libmd0'], true, { cache, onProgress }, { signal }), first);
    assert.equal(said.filter((sentence) => sentence.startsWith('downloading')).length, 1);
    process.env['PATH'] = path;
    await unpackPackages(first, join(cache, 'tree'), { cache }, { signal });
    assert.ok(existsSync(join(cache, 'tree/usr/share/doc/libmd0')));
  } finally {
    process.env['PATH'] = path;
    await rm(cache, { recursive: true, force: true });
  }
});

test('what apt keeps from earlier downloads is not left out', options, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'bm-debian-'));
  const signal = AbortSignal.timeout(120_000);
  t.after(async () => {
    delete process.env['APT_CONFIG'];
    await rm(directory, { recursive: true, force: true });
  });
  const first = await debianPackages(['libmd0'], true, { cache: join(directory, 'one') }, { signal });
  // A host whose apt has all of it in its archive directory.
  const archives = join(directory, 'one/packages');
  await mkdir(join(archives, 'partial'));
  process.env['APT_CONFIG'] = join(directory, 'apt.conf');
  await writeFile(process.env['APT_CONFIG'], `Dir::Cache::archives "${archives}";\n`);
  assert.deepEqual(await debianPackages(['libmd0'], true, { cache: join(directory, 'two') }, { signal }), first);
});

test('names that are options or paths never reach apt', async () => {
  for (const name of ['--help', '../x.deb', 'a b', 'X', '']) {
    await assert.rejects(
      debianPackages([name], false, { cache: '/nowhere' }, { signal: AbortSignal.timeout(1000) }),
      TypeError,
    );
  }
});
