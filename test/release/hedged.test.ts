import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { hedged } from '../../src/release/hedged.ts';

const { signal } = new AbortController();

/** An attempt that ends when it is aborted. */
function hangs(aborted: string[], name: string) {
  return (options: { signal: AbortSignal }) =>
    new Promise<string>((_, reject) => {
      options.signal.addEventListener('abort', () => {
        aborted.push(name);
        reject(options.signal.reason);
      });
    });
}

describe('hedged', () => {
  it('starts no second attempt when the first is quick', async () => {
    const started: number[] = [];
    const attempts = [1, 2, 3].map((n) => async () => started.push(n));
    assert.equal(await hedged(attempts, { signal, staggerMs: 60_000 }), 1);
    assert.deepEqual(started, [1]);
  });

  it('goes on at once when an attempt fails', async () => {
    const attempts = [
      () => Promise.reject(new Error('one')),
      () => Promise.reject(new Error('two')),
      async () => 'three',
    ];
    assert.equal(await hedged(attempts, { signal, staggerMs: 60_000 }), 'three');
  });

  it('tries the next beside a slow one, and aborts what it does not need', async () => {
    const aborted: string[] = [];
    const attempts = [hangs(aborted, 'a'), hangs(aborted, 'b'), async () => 'c'];
    assert.equal(await hedged(attempts, { signal, staggerMs: 5 }), 'c');
    assert.deepEqual(aborted, ['a', 'b']);
  });

  it('tells all failures', async () => {
    const fails = ['one', 'two'].map((text) => () => Promise.reject(new Error(text)));
    await assert.rejects(hedged(fails, { signal, staggerMs: 60_000 }), (error: AggregateError) => {
      assert.deepEqual(
        error.errors.map(({ message }: Error) => message),
        ['one', 'two'],
      );
      return true;
    });
    await assert.rejects(hedged([], { signal, staggerMs: 1 }), AggregateError);
  });

  it('ends with the reason of its signal', async () => {
    const stop = new AbortController();
    const result = hedged([hangs([], 'a')], { signal: stop.signal, staggerMs: 5 });
    stop.abort(new Error('enough'));
    await assert.rejects(result, /enough/);
  });
});
