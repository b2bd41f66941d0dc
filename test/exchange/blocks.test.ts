import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { CID } from 'multiformats/cid';
import { chunkCid } from '../../src/content/chunk.ts';
import { Blocks } from '../../src/exchange/blocks.ts';
import type { Link } from '../../src/exchange/link.ts';
import type { Ask, PendingRequest, RequestOwner } from '../../src/exchange/request.ts';
import { Throttle } from '../../src/exchange/throttle.ts';

const BYTES = Uint8Array.of(1, 2, 3);

/** A neighbour that answers at once, and remembers what it was asked for. */
class Neighbour {
  readonly near: boolean;
  readonly stalled = false;
  readonly closed = false;
  asked = 0;
  readonly peerId: string;
  readonly #holds: readonly CID[];

  constructor(peerId: string, holds: readonly CID[] = [], near = true) {
    this.peerId = peerId;
    this.near = near;
    this.#holds = holds;
  }

  ask(owner: RequestOwner, [ask]: readonly Ask[]): PendingRequest[] {
    this.asked += 1;
    const request = { ...ask } as PendingRequest;
    const holds = this.#holds.some((cid) => cid.equals(request.cid));
    queueMicrotask(() => (holds ? owner.bytes(this, request, BYTES) : owner.ended(this, request, 'missing')));
    return [request];
  }

  cancel(): void {}
}

suite('blocks', () => {
  test('who gave the last one is asked alone for the next; when it says no, the others are', async () => {
    const [first, second, third] = [1, 2, 3].map((n) => chunkCid(Uint8Array.of(n)));
    assert.ok(first && second && third);
    const giver = new Neighbour('giver', [first, second]);
    const other = new Neighbour('other', [third]);
    const all = [giver, other, ...Array.from({ length: 6 }, (_, n) => new Neighbour(`empty ${n}`))];
    using down = new Throttle();
    const blocks = new Blocks({
      links: () => all as unknown as Link[],
      likely: () => false,
      coming: () => 0,
      down,
      providers: async () => [],
    });
    const signal = AbortSignal.timeout(5_000);
    const asked = () => all.reduce((sum, neighbour) => sum + neighbour.asked, 0);
    assert.deepEqual(await blocks.get(first, { signal }), BYTES);
    assert.ok(asked() > 1, 'all at once while nobody is known to have it');
    const before = asked();
    assert.deepEqual(await blocks.get(second, { signal }), BYTES);
    assert.equal(asked(), before + 1);
    assert.equal(giver.asked, 2);
    assert.deepEqual(await blocks.get(third, { signal }), BYTES);
    assert.equal(giver.asked, 3);
    assert.equal(await blocks.get(chunkCid(Uint8Array.of(4)), { signal }), undefined);
  });

  test('a site of many that lack a block does not keep anybody from asking outside', async () => {
    const [held, lost] = [1, 2].map((n) => chunkCid(Uint8Array.of(n)));
    assert.ok(held && lost);
    const site = Array.from({ length: 100 }, (_, n) => new Neighbour(`empty ${n}`));
    const origin = new Neighbour('origin', [held], false);
    using down = new Throttle();
    let looked = 0;
    const blocks = new Blocks({
      links: () => [...site, origin] as unknown as Link[],
      likely: () => false,
      // In a large site somebody always is.
      coming: () => 1,
      down,
      providers: async () => {
        looked += 1;
        return [];
      },
    });
    const signal = AbortSignal.timeout(5_000);
    const asked = () => site.filter((neighbour) => neighbour.asked > 0).length;
    assert.deepEqual(await blocks.get(held, { signal }), BYTES);
    assert.deepEqual([looked, asked()], [0, 32]);
    assert.equal(await blocks.get(lost, { signal }), undefined);
    assert.equal(looked, 1);
  });

  test('outside, all of a large fleet are asked, and its origins first: the others may be no holders', async () => {
    const [held, other] = [1, 2].map((n) => chunkCid(Uint8Array.of(n)));
    assert.ok(held && other);
    const empty = Array.from({ length: 40 }, (_, n) => new Neighbour(`empty ${n}`, [], false));
    const origin = new Neighbour('origin', [held], false);
    const holder = new Neighbour('holder', [other], false);
    using down = new Throttle();
    const blocks = new Blocks({
      links: () => [...empty, holder, origin] as unknown as Link[],
      likely: (peer) => peer === 'origin',
      coming: () => 0,
      down,
      providers: async () => [],
    });
    const signal = AbortSignal.timeout(5_000);
    assert.deepEqual(await blocks.get(held, { signal }), BYTES);
    assert.deepEqual([origin.asked, ...empty.map(({ asked }) => asked)], [1, ...empty.map(() => 0)]);
    assert.deepEqual(await blocks.get(other, { signal }), BYTES);
  });

  test('a peer whose link is being opened is waited for, and asked; one that is gone is not', async () => {
    const [held, lost] = [1, 2].map((n) => chunkCid(Uint8Array.of(n)));
    assert.ok(held && lost);
    const late = new Neighbour('late', [held]);
    const all = [new Neighbour('empty')];
    let coming = 1;
    using down = new Throttle();
    const blocks = new Blocks({
      links: () => all as unknown as Link[],
      likely: () => false,
      coming: () => coming,
      down,
      providers: async () => [],
    });
    const signal = AbortSignal.timeout(5_000);
    setTimeout(() => all.push(late), 120);
    assert.deepEqual(await blocks.get(held, { signal }), BYTES);
    setTimeout(() => {
      coming = 0;
    }, 120);
    assert.equal(await blocks.get(lost, { signal }), undefined);
    assert.deepEqual([all[0]?.asked, late.asked], [2, 2], 'nobody twice for the same');
  });
});
