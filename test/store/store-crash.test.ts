import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { importSeeded } from '../../bench/store-crash/artifact.ts';
import { crash, type Work } from '../../bench/store-crash/crash.ts';
import { DownloadWork } from '../../bench/store-crash/download-work.ts';
import { ImportWork } from '../../bench/store-crash/import-work.ts';
import { type Loss, POWER_LOSSES } from '../../bench/store-crash/loss.ts';
import { seeded } from '../../bench/store-crash/random.ts';
import { silentLog } from '../../src/observe/log.ts';
import { PackStore } from '../../src/store/pack-store.ts';

const { signal } = new AbortController();
const ARTIFACT_BYTES = 16 * 1024 * 1024;

/** The short form of `npm run bench -- store-crash`: of each work, one kill for each kind of loss. */
describe('a store whose process is killed', () => {
  let directory = '';
  const works: Record<string, Work> = {};
  const stack = new AsyncDisposableStack();

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bm-crash-'));
    stack.defer(() => rm(directory, { recursive: true, force: true }));
    const origin = stack.use(await PackStore.open(join(directory, 'origin'), { log: silentLog }));
    const artifact = await importSeeded('test', ARTIFACT_BYTES, origin, { signal });
    works['import'] = new ImportWork(artifact);
    works['download'] = stack.use(await DownloadWork.open(artifact, origin));
  });
  after(() => stack.disposeAsync());

  for (const name of ['import', 'download']) {
    for (const loss of POWER_LOSSES) {
      it(`is right after it, and the ${name} resumes (${loss})`, async () => {
        const losses: Loss[] = loss === 'zero' ? ['kill', loss] : [loss];
        const { killedAt, total, aftermaths } = await crash({
          work: works[name] ?? assert.fail(),
          losses,
          random: seeded(`test/${name}/${loss}`),
          directory: join(directory, 'store'),
          signal,
        });
        assert.ok(killedAt > 0 && killedAt < total);
        assert.deepEqual(
          aftermaths.map((each) => each.loss),
          losses,
        );
      });
    }
  }
});
