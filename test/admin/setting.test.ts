import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { watermarkBytes } from '../../src/admin/setting.ts';

const GiB = 2 ** 30;

describe('watermarks', () => {
  it('leave room on a small disk and keep a large one useful when nobody sets them', () => {
    assert.deepEqual(watermarkBytes({}, 4096 * GiB), { highBytes: 64 * GiB, lowBytes: 48 * GiB });
    assert.deepEqual(watermarkBytes({}, 10 * GiB), { highBytes: 6 * GiB, lowBytes: 4.5 * GiB });
  });

  it('may be sizes or shares of the file system, also one of each', () => {
    assert.deepEqual(watermarkBytes({ high: { share: 0.5 }, low: 100 }, 1000), { highBytes: 500, lowBytes: 100 });
    assert.deepEqual(watermarkBytes({ high: 800 }, 1000), { highBytes: 800, lowBytes: 600 });
    assert.throws(() => watermarkBytes({ high: { share: 0.1 }, low: 100 }, 1000), /store\.low: 100 bytes is not below/);
  });

  it('are the right way round whenever they are accepted', () => {
    const mark = fc.option(
      fc.oneof(
        fc.integer({ min: 1, max: 1e12 }),
        fc.double({ min: 0.01, max: 0.99, noNaN: true }).map((share) => ({ share })),
      ),
      { nil: undefined },
    );
    fc.assert(
      fc.property(mark, mark, fc.integer({ min: 1e6, max: 1e15 }), (high, low, total) => {
        try {
          const { highBytes, lowBytes } = watermarkBytes({ high, low }, total);
          assert.ok(lowBytes < highBytes || highBytes <= 1);
        } catch (error) {
          assert.ok(error instanceof RangeError && low !== undefined);
        }
      }),
    );
  });
});
