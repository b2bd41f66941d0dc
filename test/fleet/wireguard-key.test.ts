import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import {
  isWireguardProof,
  loadWireguardKey,
  newWireguardKey,
  proveWireguardKey,
  wireguardPublicKey,
} from '../../src/fleet/wireguard-key.ts';

suite('WireGuard key', () => {
  test('is made once, for its owner alone, and is the one that `wg` sees', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'bm-wireguard-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const keys = await Promise.all([loadWireguardKey(folder), loadWireguardKey(folder)]);
    const again = await loadWireguardKey(folder);
    assert.deepEqual(
      keys.map(({ publicKey }) => publicKey),
      [again.publicKey, again.publicKey],
    );
    assert.equal((await stat(again.file)).mode & 0o777, 0o600);
    if (hasWg()) {
      const printed = execFileSync('wg', ['pubkey'], { input: await readFile(again.file), encoding: 'utf8' });
      assert.equal(printed.trim(), again.publicKey);
    }
    await chmod(again.file, 0o644);
    await assert.rejects(loadWireguardKey(folder), { code: 'FILE_UNUSABLE', reason: 'exposed' });
    await writeFile(again.file, 'c2hvcnQ=\n');
    await chmod(again.file, 0o600);
    await assert.rejects(loadWireguardKey(folder), { code: 'FILE_UNUSABLE', reason: 'corrupt' });
    assert.equal(await readFile(again.file, 'utf8'), 'c2hvcnQ=\n', 'never replaced');
  });

  test('is proven by who has it, for one question and one message', () => {
    const own = newWireguardKey();
    const madeUp = newWireguardKey();
    const message = Buffer.from('let me in');
    const proof = proveWireguardKey(own, wireguardPublicKey(madeUp), message);
    const claimed = wireguardPublicKey(own);
    assert.ok(isWireguardProof(proof, madeUp, claimed, message));
    assert.ok(!isWireguardProof(proof, newWireguardKey(), claimed, message), 'asked anew');
    assert.ok(!isWireguardProof(proof, madeUp, claimed, Buffer.from('let him in')));
    assert.ok(!isWireguardProof(proof, madeUp, wireguardPublicKey(newWireguardKey()), message), 'another’s key');
    assert.ok(!isWireguardProof(proof.subarray(1), madeUp, claimed, message));
    const lowOrder = Buffer.alloc(32).toString('base64');
    assert.ok(!isWireguardProof(proof, madeUp, lowOrder, message), 'a key without a secret');
  });
});

function hasWg(): boolean {
  try {
    execFileSync('wg', ['--version']);
    return true;
  } catch {
    return false;
  }
}
