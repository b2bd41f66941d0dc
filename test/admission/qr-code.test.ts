import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { qrLines } from '../../src/admission/qr-code.ts';

/** The modules that a terminal shows, without the light ones around them; true for dark. */
function shown(lines: readonly string[]): boolean[][] {
  const rows = lines.flatMap((line) => {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what is read are a terminal's control sequences
    const cells = [...line.matchAll(/\u001b\[38;5;(\d+);48;5;(\d+)m▀/g)].map(([, ink, paper]) => [ink, paper]);
    return [cells.map(([ink]) => ink === '16'), cells.map(([, paper]) => paper === '16')];
  });
  const size = (rows[0]?.length ?? 0) - 8;
  const around = [...rows.slice(0, 4), ...rows.slice(4 + size)].flat();
  assert.ok(!around.includes(true), 'a quiet zone of four modules');
  return rows.slice(4, 4 + size).map((row) => row.slice(4, 4 + size));
}

/** The eight masks (ISO/IEC 18004, table 10), by row and column. */
const MASKS: readonly ((i: number, j: number) => number)[] = [
  (i, j) => (i + j) % 2,
  (i) => i % 2,
  (_, j) => j % 3,
  (i, j) => (i + j) % 3,
  (i, j) => (Math.floor(i / 2) + Math.floor(j / 3)) % 2,
  (i, j) => ((i * j) % 2) + ((i * j) % 3),
  (i, j) => (((i * j) % 2) + ((i * j) % 3)) % 2,
  (i, j) => (((i + j) % 2) + ((i * j) % 3)) % 2,
];

/** Reads a code of versions 2 to 5 at level L, which has one block, as one does that nothing has damaged. */
function decode(modules: readonly (readonly boolean[])[]): string {
  const size = modules.length;
  const at = (row: number, column: number) => Number(modules[row]?.[column]);
  // Five bits of format: level L is 01, then the mask; all under a mask of their own.
  const format = [0, 1, 2, 3, 4].reduce((bits, column) => bits * 2 + at(8, column), 0) ^ 0b10101;
  assert.equal(format >> 3, 0b01);
  const mask = MASKS[format & 7] ?? assert.fail();
  const isFunction = (row: number, column: number) => {
    const finder = (row < 9 && (column < 9 || column >= size - 8)) || (row >= size - 8 && column < 9);
    const alignment = Math.abs(row - (size - 7)) <= 2 && Math.abs(column - (size - 7)) <= 2;
    return finder || alignment || row === 6 || column === 6;
  };
  const bits: number[] = [];
  let up = true;
  for (let right = size - 1; right > 0; right -= 2, up = !up) {
    if (right === 6) right -= 1;
    for (let step = 0; step < size; step += 1) {
      const row = up ? size - 1 - step : step;
      for (const column of [right, right - 1]) {
        if (!isFunction(row, column)) bits.push(at(row, column) ^ Number(mask(row, column) === 0));
      }
    }
  }
  const take = (count: number) => bits.splice(0, count).reduce((value, bit) => value * 2 + bit, 0);
  assert.equal(take(4), 0b0100, 'bytes');
  return Buffer.from(Array.from({ length: take(8) }, () => take(8))).toString();
}

suite('qr code', () => {
  test('what a terminal shows says the text', () => {
    for (const text of ['bm1.CiDwIgycRX1w5HQd_-', `bm1.${'aZ09-_'.repeat(16)}`]) {
      assert.equal(decode(shown(qrLines(text))), text);
    }
  });

  test('a token with all the doors that it has room for fits a terminal of 100 columns', () => {
    const lines = qrLines(`bm1.${'a'.repeat(480)}`);
    assert.ok(shown(lines).length + 8 <= 100);
    assert.ok(lines.length <= 50);
  });
});
