import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { chunkCid, DAG_PB } from '../../src/content/chunk.ts';
import { InvalidPins, Pins } from '../../src/store/pins.ts';

const [a, b] = [chunkCid(Buffer.from('a'), DAG_PB), chunkCid(Buffer.from('b'), DAG_PB)];
const names = (pins: Pins) => pins.list().map(({ name, cid }) => [name, String(cid)]);

describe('Pins', () => {
  let file = '';
  let directory = '';
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bm-pins-'));
    file = join(directory, 'pins.json');
  });
  after(() => rm(directory, { recursive: true, force: true }));

  it('lasts, and moves a name to what it pins last', async () => {
    const pins = await Pins.open(file);
    assert.deepEqual(pins.list(), []);
    await Promise.all([pins.pin('production', a), pins.pin('testing', a), pins.pin('production', b)]);
    assert.deepEqual(names(await Pins.open(file)), [
      ['production', String(b)],
      ['testing', String(a)],
    ]);
    assert.equal(await pins.unpin('production'), true);
    assert.equal(await pins.unpin('production'), false);
    assert.deepEqual(names(await Pins.open(file)), [['testing', String(a)]]);
  });

  it('refuses a file that it cannot read, and leaves it alone', async () => {
    for (const text of ['', '{"version":2,"pins":{}}', '{"version":1,"pins":{"x":"no cid"}}']) {
      await writeFile(file, text);
      await assert.rejects(Pins.open(file), InvalidPins);
      assert.equal(await readFile(file, 'utf8'), text);
    }
  });
});
