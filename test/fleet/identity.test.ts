import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { generateKeyPair, privateKeyToProtobuf } from '@libp2p/crypto/keys';
import { IDENTITY_FILE, loadIdentity } from '../../src/fleet/identity.ts';

test('the first use makes a key that only its owner reads, the next ones find it', async (t) => {
  const folder = join(await scratch(t), 'not', 'yet', 'there');
  const first = await loadIdentity(folder);
  assert.match(first.peerId, /^12D3KooW/);
  assert.equal((await stat(join(folder, IDENTITY_FILE))).mode & 0o777, 0o600);
  assert.deepEqual(await readdir(folder), [IDENTITY_FILE]);
  const again = await loadIdentity(folder);
  assert.equal(again.peerId, first.peerId);
  assert.ok(again.privateKey.equals(first.privateKey));
});

test('starts at the same moment agree on one key and leave no drafts', async (t) => {
  const folder = await scratch(t);
  const identities = await Promise.all(Array.from({ length: 8 }, () => loadIdentity(folder)));
  assert.equal(new Set(identities.map((identity) => identity.peerId)).size, 1);
  assert.deepEqual(await readdir(folder), [IDENTITY_FILE]);
});

test('a key that others can read is refused, with the command that mends it', async (t) => {
  const folder = await scratch(t);
  await loadIdentity(folder);
  for (const mode of [0o644, 0o640, 0o606]) {
    await chmod(join(folder, IDENTITY_FILE), mode);
    const message = new RegExp(`${IDENTITY_FILE} has mode 0${mode.toString(8)}.*chmod 600`);
    await assert.rejects(loadIdentity(folder), { code: 'IDENTITY_UNUSABLE', reason: 'exposed', message });
  }
  await chmod(join(folder, IDENTITY_FILE), 0o400);
  await loadIdentity(folder);
});

test('a damaged, foreign or misplaced key is refused and stays as it is', async (t) => {
  const folder = await scratch(t);
  const file = join(folder, IDENTITY_FILE);
  const good = privateKeyToProtobuf(await generateKeyPair('Ed25519'));
  const flipped = Uint8Array.from(good);
  flipped[40] = (flipped[40] ?? 0) ^ 1;
  const foreign = privateKeyToProtobuf(await generateKeyPair('secp256k1'));
  for (const bytes of [
    new Uint8Array(),
    good.subarray(0, 30),
    flipped,
    foreign,
    new Uint8Array(5000),
    Buffer.from('key'),
  ]) {
    await writeFile(file, bytes, { mode: 0o600 });
    await assert.rejects(loadIdentity(folder), { code: 'IDENTITY_UNUSABLE', reason: 'corrupt', message: /backup/ });
    assert.deepEqual(await readFile(file), Buffer.from(bytes));
  }
});

test('a link, a folder, or an impossible place is refused', async (t) => {
  const folder = await scratch(t);
  await symlink('/dev/zero', join(folder, IDENTITY_FILE));
  await assert.rejects(loadIdentity(folder), { reason: 'unreadable' });
  await mkdir(join(folder, 'b', IDENTITY_FILE), { recursive: true, mode: 0o700 });
  await assert.rejects(loadIdentity(join(folder, 'b')), { reason: 'corrupt', message: /no regular file/ });
  await writeFile(join(folder, 'file'), '');
  await assert.rejects(loadIdentity(join(folder, 'file')), { code: 'IDENTITY_UNUSABLE', reason: 'unreadable' });
});

async function scratch(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'bm-identity-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
