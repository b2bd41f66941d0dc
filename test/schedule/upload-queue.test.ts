import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { type Rank, UploadQueue } from '../../src/schedule/upload-queue.ts';

interface Request {
  readonly chunk: number;
  readonly bytes: number;
}

const ready = () => true;

/** A queue over chunks of which it counts the copies that left. */
function counting(slack = 0) {
  const left = new Map<number, number>();
  const queue = new UploadQueue<string, Request>({ copies: ({ chunk }) => left.get(chunk) ?? 0, slack });
  const next = (may: (peer: string) => boolean = ready) => {
    const turn = queue.next(may);
    if (turn === undefined) return undefined;
    left.set(turn.request.chunk, (left.get(turn.request.chunk) ?? 0) + 1);
    queue.gave(turn.peer, turn.request.bytes);
    return turn;
  };
  return { queue, next };
}

suite('upload queue', () => {
  test('each chunk leaves once before any leaves twice, and no peer gets much more than another', () => {
    const slack = 128 * 1024;
    const { queue, next } = counting(slack);
    const peers = ['a', 'b', 'c', 'd'];
    for (const peer of peers)
      for (let chunk = 0; chunk < 25; chunk += 1) queue.add(peer, 'foreground', { chunk, bytes: 64 * 1024 });
    const given = new Map(peers.map((peer) => [peer, 0]));
    const order: number[] = [];
    for (let turn = next(); turn !== undefined; turn = next()) {
      order.push(turn.request.chunk);
      given.set(turn.peer, (given.get(turn.peer) ?? 0) + turn.request.bytes);
      const shares = [...given.values()];
      assert.ok(Math.max(...shares) - Math.min(...shares) <= slack + 64 * 1024);
    }
    assert.equal(new Set(order.slice(0, 25)).size, 25);
    assert.equal(order.length, 100);
  });

  test('what a reader waits for overtakes all, background waits for all, and a peer that is not ready is passed over', () => {
    const { queue, next } = counting();
    const ranks: Rank[] = ['background', 'foreground', 'urgent'];
    for (const [chunk, rank] of ranks.entries()) queue.add('a', rank, { chunk, bytes: 1 });
    queue.add('b', 'urgent', { chunk: 9, bytes: 1 });
    const first = next((peer) => peer === 'a');
    assert.deepEqual([first?.peer, first?.rank], ['a', 'urgent']);
    assert.equal(next()?.request.chunk, 9);
    assert.deepEqual([next()?.rank, next()?.rank, next()], ['foreground', 'background', undefined]);
  });

  test('a peer that comes late starts level with the others, and does not keep them waiting', () => {
    const { queue, next } = counting();
    for (let chunk = 0; chunk < 50; chunk += 1) queue.add('early', 'foreground', { chunk, bytes: 1000 });
    for (let n = 0; n < 40; n += 1) next();
    for (let chunk = 50; chunk < 100; chunk += 1) queue.add('late', 'foreground', { chunk, bytes: 1000 });
    const turns = Array.from({ length: 10 }, () => next()?.peer);
    assert.ok(turns.filter((peer) => peer === 'early').length >= 4, String(turns));
  });

  test('property: whatever is asked and taken back, each request leaves once or is given back once', () => {
    const step = fc.record({
      peer: fc.constantFrom('a', 'b', 'c'),
      rank: fc.constantFrom<Rank>('urgent', 'foreground', 'background'),
      chunk: fc.nat(20),
      act: fc.constantFrom('add', 'add', 'next', 'remove'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { queue, next } = counting(10);
        const inside: string[] = [];
        const out = (peer: string, { chunk }: Request) => {
          const at = inside.indexOf(`${peer}${chunk}`);
          assert.ok(at >= 0);
          inside.splice(at, 1);
        };
        for (const { peer, rank, chunk, act } of steps) {
          if (act === 'add') {
            queue.add(peer, rank, { chunk, bytes: 7 });
            inside.push(`${peer}${chunk}`);
          } else if (act === 'remove') {
            for (const request of queue.remove(peer, (one) => one.chunk === chunk)) out(peer, request);
            assert.ok(!inside.includes(`${peer}${chunk}`));
          } else {
            const turn = next();
            if (turn) out(turn.peer, turn.request);
            else assert.equal(inside.length, 0);
          }
        }
        for (let turn = next(); turn !== undefined; turn = next()) out(turn.peer, turn.request);
        assert.equal(inside.length, 0);
        assert.equal(queue.countOf('a'), 0);
      }),
      { numRuns: 500 },
    );
  });
});
