import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { missingRequirements } from '../../src/lab/requirements.ts';
import { runCli, startCli } from './run-cli.ts';

let root = '';
let file = '';
let directory = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'bm-lab-'));
  file = join(root, 'fleet.yaml');
  directory = join(root, 'lab');
  await writeFile(file, 'fleet: tiny\nsites: { here: {} }\nnodes: { one: { site: here }, two: { site: here } }\n');
});
after(async () => {
  await runCli('lab', 'down', '--directory', directory);
  await rm(root, { recursive: true, force: true });
});

interface Status {
  readonly state: string;
  readonly nodes: readonly { readonly name: string; readonly pid?: number }[];
  readonly namespaces: readonly string[];
}

const status = async () =>
  (await runCli('lab', 'status', '--directory', directory, '--json')).json() as unknown as Status;

const missing = await missingRequirements();
const skip = missing.length > 0 && `no lab can be made here: ${missing.join('; ')}`;

describe('bootmesh lab', { skip, timeout: 90_000 }, () => {
  it('brings a fleet up in the background, runs programs where its nodes are, and takes it down', async () => {
    const up = await runCli('lab', 'up', file, '--directory', directory, '--detach', '--json');
    assert.equal(up.code, 0, up.stdout + up.stderr);
    const { state, nodes, namespaces } = await status();
    assert.deepEqual(
      [state, nodes.map(({ name, pid }) => [name, typeof pid])],
      [
        'up',
        [
          ['one', 'number'],
          ['two', 'number'],
        ],
      ],
    );
    assert.equal((await runCli('lab', 'up', file, '--directory', directory, '--detach')).code, 6);
    const exec = (...args: string[]) => runCli('lab', 'exec', '--directory', directory, ...args);
    const ran = await exec('one', '--', 'sh', '-c', 'echo $0 "$@"; exit 7', '--json', '--help');
    assert.deepEqual([ran.code, ran.stdout], [7, '--json --help\n']);
    const unknown = await exec('three', 'true');
    assert.equal(unknown.code, 3);
    assert.match(unknown.stderr, /has no node 'three': it has one, two/);
    assert.equal((await runCli('lab', 'down', '--directory', directory)).code, 0);
    const left = execFileSync('ip', ['netns'], { encoding: 'utf8' });
    assert.deepEqual(
      namespaces.filter((name) => left.includes(name)),
      [],
    );
    assert.equal((await status()).state, 'down');
    const heal = await runCli('lab', 'heal', '--directory', directory);
    assert.equal(heal.code, 3);
    assert.match(heal.stderr, /no lab is up that listens at .*lab\.sock: `bootmesh lab up FILE`/);
  });

  it('holds a fleet up until Ctrl-C, which leaves nothing behind', async () => {
    const { child, done, waitFor } = startCli(['lab', 'up', file, '--directory', directory, '--json']);
    await waitFor(/"state":"up".*\n/);
    const { namespaces } = await status();
    assert.ok(namespaces.length > 0);
    child.kill('SIGINT');
    const ended = await done;
    assert.equal(ended.code, 0, ended.stderr);
    assert.deepEqual(ended.json(), { directory, state: 'down' });
    const left = execFileSync('ip', ['netns'], { encoding: 'utf8' });
    assert.deepEqual(
      namespaces.filter((name) => left.includes(name)),
      [],
    );
    assert.deepEqual(
      (await readdir(root)).filter((name) => name === 'lab'),
      [],
    );
  });
});
