import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { crashImport, LOSSES, seeded, seededFile } from '../../bench/store-crash.ts';

/** The short form of `npm run bench -- store-crash`: one kill of each kind. */
describe('an import that is killed', () => {
  const { signal } = new AbortController();
  let directory = '';
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bm-crash-'));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  for (const loss of LOSSES) {
    it(`leaves a store that is right and resumes (${loss})`, async () => {
      const file = await seededFile(directory, 'test', 48 * 1024 * 1024);
      const crash = await crashImport({ directory, file, loss, random: seeded(`test/${loss}`), signal });
      assert.ok(crash.killedAt < crash.fileBytes && crash.recovered < crash.chunks);
    });
  }
});
