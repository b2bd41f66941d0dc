import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { Invitations } from '../../src/admission/invitations.ts';
import { AdmissionRefused, type RefusalReason } from '../../src/admission/refusal.ts';

const NOW = 1_000_000;
const FACTS = { site: 'edge', roles: ['seed'], notAfter: NOW + 3600 };

async function place(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'bm-invitations-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return join(folder, 'invitations.json');
}

function refused(reason: RefusalReason) {
  return (error: unknown) => error instanceof AdmissionRefused && error.reason === reason;
}

suite('invitations', () => {
  test('let in one machine each, which may come again for its answer, also after a restart', async (t) => {
    const file = await place(t);
    const invitations = await Invitations.open(file);
    const secret = await invitations.invite(FACTS, NOW);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.ok(!readFileSync(file, 'latin1').includes(Buffer.from(secret).toString('hex')), 'the secret is not kept');
    const both = await Promise.allSettled([
      invitations.redeem(secret, 'first', NOW),
      invitations.redeem(secret, 'second', NOW),
    ]);
    assert.deepEqual(
      both.map(({ status }) => status),
      ['fulfilled', 'rejected'],
    );
    const anew = await Invitations.open(file);
    await assert.rejects(anew.redeem(secret, 'second', NOW), refused('used'));
    assert.partialDeepStrictEqual(await anew.redeem(secret, 'first', NOW), { ...FACTS, usedBy: 'first' });
  });

  test('are over in time, and known as such for a week', async (t) => {
    const file = await place(t);
    const invitations = await Invitations.open(file);
    const secret = await invitations.invite(FACTS, NOW);
    assert.equal(invitations.openUntil(NOW), NOW + 3600);
    assert.equal(invitations.openUntil(NOW + 3601), undefined);
    await assert.rejects(invitations.redeem(secret, 'late', NOW + 3601), refused('expired'));
    await invitations.invite({ ...FACTS, notAfter: NOW + 10 * 86_400 }, NOW + 8 * 86_400);
    await assert.rejects(invitations.redeem(secret, 'late', NOW + 8 * 86_400), refused('token'));
    await assert.rejects(invitations.redeem(Buffer.alloc(16), 'anybody', NOW), refused('token'));
  });

  test('are so many at most', async (t) => {
    const file = await place(t);
    const all = Array.from({ length: 1024 }, (_, n) => ({ ...FACTS, digest: n.toString(16).padStart(64, '0') }));
    await writeFile(file, JSON.stringify({ format: 1, invitations: all }), { mode: 0o600 });
    const invitations = await Invitations.open(file);
    await assert.rejects(invitations.invite(FACTS, NOW), refused('busy'));
    await invitations.invite({ ...FACTS, notAfter: NOW + 9 * 86_400 }, NOW + 8 * 86_400);
  });

  test('in a damaged file are not forgotten silently', async (t) => {
    const file = await place(t);
    await writeFile(file, '{"format":1,', { mode: 0o600 });
    await assert.rejects(Invitations.open(file), { code: 'FILE_UNUSABLE', reason: 'corrupt' });
    assert.equal(readFileSync(file, 'utf8'), '{"format":1,');
  });
});
