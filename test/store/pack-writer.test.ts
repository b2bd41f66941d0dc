import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { chunkCid } from '../../src/content/chunk.ts';
import { PackWriter } from '../../src/store/pack-writer.ts';
import { SEGMENT_HEADER_BYTES, type Segment } from '../../src/store/segment.ts';

const OPTIONS = { segmentBytes: 100_000, syncBytes: 60_000, syncMilliseconds: 5, reserveBytes: 0 };
const CHUNK = 10_000;
let directory = '';
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'bm-writer-'));
});
after(() => rm(directory, { recursive: true, force: true }));

/** A writer on a disk whose syncs take `milliseconds`, and what it told. */
async function openWriter(milliseconds: number, failAfter = Number.POSITIVE_INFINITY) {
  const at = await mkdtemp(join(directory, 'segments-'));
  const told = { written: 0, synced: 0, mostUnsynced: 0, segments: new Map<Segment, number>() };
  const writer = await PackWriter.open(
    at,
    undefined,
    {
      onSegment: (segment) => void told.segments.set(segment, SEGMENT_HEADER_BYTES),
      onStored: (_, { headerBytes, storedBytes }) => {
        told.written += headerBytes + storedBytes;
        told.mostUnsynced = Math.max(told.mostUnsynced, told.written - told.synced);
      },
      onSynced: async (segment, bytes) => {
        await sleep(milliseconds);
        if (told.synced > failAfter) throw new Error('the disk is broken');
        assert.ok((await stat(segment.path)).size >= bytes);
        told.synced += bytes - (told.segments.get(segment) ?? 0);
        told.segments.set(segment, bytes);
      },
    },
    OPTIONS,
  );
  const append = () => {
    const bytes = randomBytes(CHUNK);
    return writer.append({ cid: chunkCid(bytes), stored: { encoding: 'plain', bytes }, plainBytes: CHUNK });
  };
  return { writer, told, append };
}

describe('PackWriter', () => {
  it('syncs the end of a segment that fills up while its beginning is being synced', async () => {
    const { writer, told, append } = await openWriter(40);
    for (let round = 0; round < 3; round += 1) {
      await Promise.all(Array.from({ length: 4 }, append));
      // The sync that is due now finds these; the next ones fill the segment while it lasts.
      await sleep(20);
      for (let n = 0; n < 7; n += 1) await append();
    }
    await writer.flush();
    for (const [segment, synced] of told.segments) assert.equal(synced, segment.size);
    assert.equal(told.synced, told.written);
    await writer.close();
  });

  it('lets who appends wait for a slow disk: two groups and a batch are unsynced at most', async () => {
    const { writer, told, append } = await openWriter(15);
    await Promise.all(Array.from({ length: 100 }, append));
    assert.ok(told.segments.size >= 9);
    const most = 2 * OPTIONS.syncBytes + OPTIONS.segmentBytes + 1000;
    assert.ok(told.mostUnsynced <= most, `${told.mostUnsynced} bytes were unsynced`);
    assert.ok(told.synced > 0 && told.synced < told.written);
    await writer.flush();
    assert.equal(told.synced, told.written);
    await writer.close();
  });

  it('takes nothing more when a sync failed, and keeps nobody waiting', async () => {
    const { writer, append } = await openWriter(1, 200_000);
    const outcomes = await Promise.allSettled(Array.from({ length: 100 }, append));
    const failed = outcomes.filter(({ status }) => status === 'rejected');
    assert.ok(failed.length > 0 && failed.length < 80, `${failed.length} failed`);
    await assert.rejects(append(), /cannot sync segment/);
    await assert.rejects(writer.flush(), /cannot sync segment/);
    await assert.rejects(writer.close(), /cannot sync segment/);
  });
});
