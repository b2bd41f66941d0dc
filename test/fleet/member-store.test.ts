import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { type Disk, durableDisk } from '../../src/disk/durable-file.ts';
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

  test('what could not be written is tried again by itself, and told once', { timeout: 10_000 }, async (t) => {
    const { file, log, open } = await place(t);
    const attempts: number[] = [];
    const disk: Disk = {
      ...durableDisk,
      replace: async (...args) => {
        attempts.push(performance.now());
        if (attempts.length < 4) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
        await durableDisk.replace(...args);
      },
    };
    const store = new MemberStore(file, { log, disk }, { settleMs: 5, againMs: 20 });
    store.keep(() => STATEMENTS.slice(0, 1));
    await assert.rejects(store.flush(), { code: 'ENOSPC' });
    while ((await open().read()).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(attempts.length, 4);
    const pauses = attempts.slice(1).map((at, n) => at - (attempts[n] ?? 0));
    // Timers count whole milliseconds.
    assert.ok(
      pauses.every((ms, n) => ms >= 19 * 2 ** n),
      `${pauses}`,
    );
    await store[Symbol.asyncDispose]();
    const told = log.lines.map(({ level, sentence }) => `${level} ${sentence}`);
    assert.deepEqual(told, ['error members cannot be written, and are tried again', 'info members are written again']);
  });

  test('what cannot be written at the end is told to who closes it, and not tried again', async (t) => {
    const { file, log } = await place(t);
    let attempts = 0;
    const replace = async () => {
      attempts += 1;
      throw new Error('read-only file system');
    };
    const store = new MemberStore(file, { log, disk: { ...durableDisk, replace } }, { settleMs: 60_000, againMs: 1 });
    store.keep(() => STATEMENTS);
    await assert.rejects(store[Symbol.asyncDispose](), /read-only/);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(attempts, 1);
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
