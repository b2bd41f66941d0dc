import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));
const bin = (name: string) => join(root, 'node_modules/.bin', name);

async function passes(command: string, ...args: string[]): Promise<void> {
  const { code, stdout, stderr } = await run(command, args, { cwd: root, maxBuffer: 1 << 26 }).then(
    (output) => ({ code: 0, ...output }),
    (failure) => failure,
  );
  assert.equal(code, 0, `${command} ${args.join(' ')}\n${stdout}${stderr}`);
}

describe('the source', () => {
  it('is well typed', () => passes(bin('tsc')));
  it('is formatted and linted', () => passes(bin('biome'), 'check', '--error-on-warnings'));
  it('has no dead file, export or dependency', () => passes(bin('knip')));

  it('holds no path of a machine and no registry', async () => {
    const { stdout } = await run('git', ['ls-files', '-z', ':!package-lock.json'], { cwd: root });
    const files = stdout.split('\0').filter((file) => file !== '' && !file.startsWith('test/fixtures/'));
    const wrong: string[] = [];
    for (const file of files) {
      const text = await readFile(join(root, file), 'utf8').catch(() => '');
      if (/["'\s(]\/(work|farm)\/|https?:\/\/registry\./.test(text)) wrong.push(file);
    }
    assert.deepEqual(wrong, []);
  });
});

describe('the schemas in proto', () => {
  it('are the ones the generated code was made from', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'bm-proto-'));
    try {
      await run(bin('buf'), ['generate', 'proto', '--template', 'proto/buf.gen.yaml', '-o', directory], { cwd: root });
      const made = (await readdir(join(directory, 'src'), { recursive: true })).filter((f) => f.endsWith('_pb.ts'));
      assert.ok(made.length > 0);
      for (const file of made) {
        const fresh = await readFile(join(directory, 'src', file), 'utf8');
        assert.equal(await readFile(join(root, 'src', file), 'utf8'), fresh, `${file} is stale: npm run proto`);
      }
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});

describe('the npm package', () => {
  let directory = '';
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bm-pack-'));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  it('installs from its tarball and runs', async () => {
    const npm = (...args: string[]) =>
      run('npm', [...args, '--loglevel=error'], { cwd: directory, maxBuffer: 1 << 26 });
    const { stdout } = await run('npm', ['pack', '--json', '--loglevel=error', '--pack-destination', directory], {
      cwd: root,
      maxBuffer: 1 << 26,
    });
    const tarball = /"filename": "([^"]+\.tgz)"/.exec(stdout)?.[1] ?? assert.fail(stdout);
    await cp(join(root, '.npmrc'), join(directory, '.npmrc'));
    await npm('install', '--prefix', directory, '--prefer-offline', '--omit=dev', join(directory, tarball));
    const bootmesh = join(directory, 'node_modules/.bin/bootmesh');
    assert.match((await run(bootmesh, ['--help'])).stdout, /publish/);
    const data = join(directory, 'data');
    const { stdout: id } = await run(bootmesh, ['id', '--data', data, '--json']);
    assert.match(JSON.parse(id.trim().split('\n').at(-1) ?? '').peerId, /^12D3Koo/);
    const shipped = await readdir(join(directory, 'node_modules/bootmesh'), { recursive: true });
    for (const file of [
      'dist/agent/bootmesh.service',
      'dist/image/init.sh',
      'LICENSE',
      'README.md',
      'peers/demo.yaml',
    ]) {
      assert.ok(shipped.includes(file), `${file} ships`);
    }
    assert.deepEqual(
      shipped.filter((file) => file.startsWith('test/')),
      [],
    );
  });
});
