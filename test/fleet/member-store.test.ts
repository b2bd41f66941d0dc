import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { MemberStore } from '../../src/fleet/member-store.ts';
import { RecordedLog } from '../fakes/recorded-log.ts';

const STATEMENTS = [Buffer.from('one'), Buffer.alloc(1024, 2), Buffer.from('three')];

async function place(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'bm-members-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const log = new RecordedLog();
  const file = join(folder, 'members');
  return { folder, file, log, open: (settleMs = 5) => new MemberStore(file, { log }, { settleMs }) };
}

suite('member store', () => {
  test('gives back what it was to keep, in order, to its owner alone', async (t) => {
    const { file, open, folder } = await place(t);
    const store = open();
    assert.deepEqual(await store.read(), []);
    store.keep(() => STATEMENTS);
    await store.flush();
    assert.deepEqual(await open().read(), STATEMENTS);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.deepEqual(await readdir(folder), ['members']);
  });

  test('writes by itself, and what was said last when it is closed', async (t) => {
    const { open } = await place(t);
    const store = open();
    store.keep(() => STATEMENTS.slice(0, 1));
    while ((await open().read()).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const slow = open(60_000);
    slow.keep(() => STATEMENTS.slice(0, 2));
    slow.keep(() => STATEMENTS);
    await slow[Symbol.asyncDispose]();
    assert.deepEqual(await open().read(), STATEMENTS);
  });

  test('of a file that was cut off anywhere, what is whole is read, and the file is kept', async (t) => {
    const { file, folder, log, open } = await place(t);
    const store = open();
    store.keep(() => STATEMENTS);
    await store.flush();
    const whole = await readFile(file);
    for (const length of [0, 5, 20, 30, whole.length - 1]) {
      log.lines.length = 0;
      await writeFile(file, whole.subarray(0, length), { mode: 0o600 });
      const read = await open().read();
      assert.deepEqual(read, STATEMENTS.slice(0, read.length), `${length} bytes`);
      assert.ok(read.length < STATEMENTS.length);
      assert.equal(log.lines[0]?.level, 'error', `${length} bytes`);
      assert.deepEqual(await readdir(folder), ['members.damaged']);
    }
  });
});
