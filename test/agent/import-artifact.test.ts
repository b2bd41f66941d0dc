import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { importArtifact } from '../../src/agent/import-artifact.ts';
import { silentLog } from '../../src/observe/log.ts';
import { PackStore } from '../../src/store/pack-store.ts';

const PIECE = 4 * 1024 * 1024;
const sha256 = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex');

describe('importArtifact', () => {
  let directory = '';
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bm-import-'));
  });
  after(() => rm(directory, { recursive: true }));

  for (const size of [1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 12_345]) {
    it(`says of ${size} bytes what a guest can check with sha256sum`, async () => {
      const bytes = randomBytes(size);
      const path = join(directory, 'root fs.squashfs');
      await writeFile(path, bytes);
      await using store = await PackStore.open(join(directory, `store-${size}`), { log: silentLog });
      const seen: number[] = [];
      const { manifest, ref } = await importArtifact(path, store, {
        signal: AbortSignal.timeout(10_000),
        onProgress: (progress) => seen.push(progress.bytes),
      });
      const pieces: string[] = [];
      for (let start = 0; start < size; start += PIECE) pieces.push(sha256(bytes.subarray(start, start + PIECE)));
      assert.deepEqual(ref, {
        name: 'root_fs.squashfs',
        cid: manifest.cid.toString(),
        size,
        sha256: sha256(bytes),
        pieces: sha256(pieces.map((line) => `${line}\n`).join('')),
      });
      assert.equal(seen.at(-1), size);
    });
  }
});
