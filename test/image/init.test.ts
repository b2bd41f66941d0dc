import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';

const options = { skip: existsSync('/bin/busybox') ? false : 'needs busybox-static' };
let functions: string;

before(async () => {
  const init = await asset('init.sh');
  const head = init.split('# ---- the way up ----')[0] ?? '';
  assert.ok(head.length < init.length);
  functions = head.replace('. /etc/bootmesh/fetch.sh', await asset('fetch.sh'));
});

async function asset(name: string): Promise<string> {
  return await readFile(new URL(`../../src/image/${name}`, import.meta.url), 'utf8');
}

/** Runs init.sh's own functions in the shell that runs them in a guest; the last line it prints. */
function shell(text: string, args: readonly string[] = []): string {
  const path = process.env['PATH'] ?? '';
  const script = `${functions}\nPATH='${path}'\n${text}`;
  return execFileSync('/bin/busybox', ['sh', '-c', script, 'init', ...args], { encoding: 'utf8' }).trim();
}

function judge(rule: string, values: readonly string[]): string[] {
  const verdicts = shell(`for value in "$@"; do ${rule} "$value" && echo yes || echo no; done`, values).split('\n');
  return values.filter((_, index) => verdicts[index] === 'yes');
}

test('only base URLs with an address literal and a port are neighbours', options, () => {
  const good = ['http://10.0.0.2:8080', 'http://[fd00::2]:80'];
  const bad = [
    ...[
      'https://10.0.0.2:8080',
      'http://10.0.0.2',
      'http://host.example:80',
      'http://10.0.0.2:8080/x',
      'ftp://1.2.3.4:1',
    ],
    ...[
      'http://$(reboot):80',
      'http://10.0.0.2:80;reboot',
      'http://10.0.0.2:80`id`',
      "http://10.0.0.2:'80",
      'http://[::1]',
    ],
    ...[
      'http://10.0.0.2:80 x',
      'http://:80',
      'http://[]:80',
      '',
      'http://10.0.0.2:8o',
      'http://*:80',
      'http://[fd00::2]x:80',
    ],
  ];
  assert.deepEqual(judge('is_neighbour', [...good, ...bad]), good);
});

test('numbers, hashes, CIDs and names have one spelling and a bounded length', options, () => {
  const hash = 'a1'.repeat(32);
  assert.deepEqual(judge('is_number', ['0', '4194304', '01', '-1', '1e3', '', '9'.repeat(16), '1 2', '$((1))']), [
    '0',
    '4194304',
  ]);
  assert.deepEqual(judge('is_hash', [hash, hash.toUpperCase(), hash.slice(1), `${hash}0`, `${hash.slice(1)}/`]), [
    hash,
  ]);
  assert.deepEqual(judge('is_cid', ['bafybeigdyrzt', 'short', '../../../etc', 'b'.repeat(129), 'bafy;reboot']), [
    'bafybeigdyrzt',
  ]);
  assert.deepEqual(judge('is_name', ['production', 'v1.2-x', '..', '.x', 'a/b', '', 'a b', 'x'.repeat(65)]), [
    'production',
    'v1.2-x',
  ]);
});

test('a ticket counts when every value that is used is well-formed and the channel is ours', options, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'bm-ticket-'));
  const hash = 'ab'.repeat(32);
  const good = [
    ...['bootmesh-ticket 1', 'fleet demo', 'channel production', 'version 3', 'issued 2026-11-21T00:00:00Z'],
    ...[
      `kernel bafykernel1 100 ${hash}`,
      'a-later-key that we do not know',
      `rootfs bafyrootfs1 5000000 ${hash} ${hash} 4194304`,
    ],
  ];
  const read = async (lines: readonly string[]): Promise<string> => {
    await writeFile(join(directory, 'ticket'), `${lines.join('\n')}\n`);
    return shell(`WORK=$1 channel=production; read_ticket && echo "$version $rootfs_cid $rootfs_size" || echo no`, [
      directory,
    ]);
  };
  const without = (start: string, instead: string) => good.map((line) => (line.startsWith(start) ? instead : line));
  try {
    assert.equal(await read(good), '3 bafyrootfs1 5000000');
    for (const [start, instead] of [
      ['bootmesh-ticket', 'bootmesh-ticket 2'],
      ['channel', 'channel testing'],
      ['channel', ''],
      ['version', 'version three'],
      ['rootfs', ''],
      ['rootfs', `rootfs bafyrootfs1 5000000 ${hash} ${hash} 1048576`],
      ['rootfs', `rootfs bafyrootfs1 0 ${hash} ${hash} 4194304`],
      ['rootfs', `rootfs ../../x/yyyy 5000000 ${hash} ${hash} 4194304`],
      ['rootfs', `rootfs bafyrootfs1 5000000 ${hash} - 4194304`],
    ] as const) {
      assert.equal(await read(without(start, instead)), 'no', `${start} → ${instead}`);
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
