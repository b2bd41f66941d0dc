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

function from(peerId: string, machine: readonly string[] = []) {
  return { peerId, machine };
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
      invitations.redeem(secret, from('first'), NOW),
      invitations.redeem(secret, from('second'), NOW),
    ]);
    assert.deepEqual(
      both.map(({ status }) => status),
      ['fulfilled', 'rejected'],
    );
    const anew = await Invitations.open(file);
    await assert.rejects(anew.redeem(secret, from('second'), NOW), refused('used'));
    assert.partialDeepStrictEqual(await anew.redeem(secret, from('first'), NOW), { ...FACTS, usedBy: 'first' });
  });

  test('are over in time, and known as such for a week', async (t) => {
    const file = await place(t);
    const invitations = await Invitations.open(file);
    const secret = await invitations.invite(FACTS, NOW);
    assert.equal(invitations.openUntil(NOW), NOW + 3600);
    assert.equal(invitations.openUntil(NOW + 3601), undefined);
    await assert.rejects(invitations.redeem(secret, from('late'), NOW + 3601), refused('expired'));
    await invitations.invite({ ...FACTS, notAfter: NOW + 10 * 86_400 }, NOW + 8 * 86_400);
    await assert.rejects(invitations.redeem(secret, from('late'), NOW + 8 * 86_400), refused('token'));
    await assert.rejects(invitations.redeem(Buffer.alloc(16), from('anybody'), NOW), refused('token'));
  });

  test('for a machine let in no other, and are not used up by it', async (t) => {
    const file = await place(t);
    const [mac, serial] = ['mac:52:54:00:12:34:56', 'serial:c02xk'];
    const secret = await (await Invitations.open(file)).invite({ ...FACTS, machine: mac }, NOW);
    const anew = await Invitations.open(file);
    const [thief, right] = [from('thief', [serial]), from('right', [serial, mac])];
    assert.throws(() => anew.find(secret, thief), refused('machine'));
    await assert.rejects(anew.redeem(secret, thief, NOW), refused('machine'));
    await assert.rejects(anew.redeem(secret, from('nameless'), NOW), refused('machine'));
    assert.equal((await anew.redeem(secret, right, NOW)).usedBy, 'right');
    await assert.rejects(anew.redeem(secret, from('other', [mac]), NOW), refused('used'));
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
