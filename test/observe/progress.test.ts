import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatBytes, openProgress } from '../../src/observe/progress.ts';

function scene(isTTY: boolean, columns = 200) {
  let now = 5_000;
  const writes: string[] = [];
  const stream = { isTTY, columns, write: (text: string) => writes.push(text) };
  const progress = openProgress({ label: 'fetch', total: 10_000_000, stream, now: () => now });
  const at = (ms: number, done: number, total?: number) => {
    now = 5_000 + ms;
    progress.update(done, total);
  };
  return { writes, progress, at };
}

describe('progress', () => {
  it('is silent for what is over within two seconds, and without a stream', () => {
    for (const tty of [true, false]) {
      const { writes, progress, at } = scene(tty);
      for (let ms = 0; ms < 2_000; ms += 10) at(ms, ms * 100);
      progress.finish();
      assert.deepEqual(writes, []);
    }
    openProgress({ label: 'x', stream: undefined }).update(1);
  });

  it('redraws a terminal’s line at most ten times a second, and ends it once', () => {
    const { writes, progress, at } = scene(true);
    for (let ms = 0; ms <= 5_000; ms += 5) at(ms, ms * 1_000);
    assert.ok(writes.length >= 25 && writes.length <= 31, `${writes.length} draws in the 3 s that are shown`);
    assert.ok(writes.every((text) => text.startsWith('\r\x1b[K') && !text.includes('\n')));
    assert.match(writes.at(-1) ?? '', /fetch {2}\[#{12}-{12}\] {2}50% {2}5\.0 MB of 10\.0 MB {2}1\.0 MB\/s, 0:05 left/);
    progress.finish();
    progress.finish();
    at(9_000, 9);
    assert.equal(writes.filter((text) => text.endsWith('\n')).length, 1);
    assert.match(writes.at(-1) ?? '', /5\.0 MB of 10\.0 MB {2}1\.0 MB\/s in 0:05\n$/);
  });

  it('writes plain lines to a pipe every five seconds and at the end', () => {
    const { writes, progress, at } = scene(false);
    for (let ms = 0; ms <= 13_000; ms += 100) at(ms, ms * 500);
    progress.finish();
    assert.equal(writes.length, 4);
    assert.ok(
      writes.every((text) => /^fetch .*\n$/.test(text) && !text.includes('\r') && !text.includes('#')),
      writes.join(),
    );
  });

  it('follows a rate that changes, and says that it stands still', () => {
    const { writes, at } = scene(true);
    for (let ms = 0; ms <= 10_000; ms += 100) at(ms, ms * 800);
    for (let ms = 10_100; ms <= 16_000; ms += 100) at(ms, 8_000_000 + (ms - 10_000) * 100);
    assert.match(writes.at(-1) ?? '', /100\.0 kB\/s, 0:14 left/);
    for (let ms = 16_100; ms <= 22_000; ms += 100) at(ms, 8_600_000);
    assert.match(writes.at(-1) ?? '', / 0 B\/s$/);
  });

  it('copes with a total that is not known or comes late, and with a narrow terminal', () => {
    const narrow = scene(true, 20);
    narrow.at(3_000, 1_000);
    assert.equal(narrow.writes[0]?.length, '\r\x1b[K'.length + 19);
    const late = scene(true);
    late.at(3_000, 5, 0);
    assert.match(late.writes[0] ?? '', /fetch {2}5 B {2}/);
    late.at(4_000, 50, 100);
    assert.match(late.writes[1] ?? '', / 50% /);
  });

  it('writes sizes with one decimal and powers of 1000', () => {
    const texts = [0, 999, 1_000, 1_549, 999_949, 999_951, 123_456_789, 5e15].map(formatBytes);
    assert.deepEqual(texts, ['0 B', '999 B', '1.0 kB', '1.5 kB', '999.9 kB', '1.0 MB', '123.5 MB', '5000.0 TB']);
  });
});
