import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Announcer } from '../../src/exchange/announcer.ts';
import type { Link } from '../../src/exchange/link.ts';
import { LocalSet } from '../../src/exchange/local-set.ts';
import type { Message } from '../../src/exchange/message.ts';
import { MemoryStore } from '../fakes/memory-store.ts';
import { content } from '../swarm/fleet.ts';

/** A peer that wants every set, and remembers what it was told. */
class Listener {
  readonly near: boolean;
  readonly heard: number[] = [];
  readonly sets = { get: () => ({ wants: true }) };

  constructor(near: boolean) {
    this.near = near;
  }

  send(message: Message): void {
    if (message.kind === 'have') this.heard.push(...message.added);
  }
}

suite('announcer', () => {
  for (const first of ['nobody', 'a peer outside'] as const) {
    test(`${first} listened when the news began: a neighbour that comes hears what follows soon`, async () => {
      const listeners: Listener[] = first === 'nobody' ? [] : [new Listener(false)];
      using announcer = new Announcer({
        links: () => listeners as unknown as Link[],
        outside: () => false,
        lateMs: () => 0,
      });
      const local = await LocalSet.open(content(10).set, 1, new MemoryStore(), {});
      local.wanted = true;
      local.stored(0, true);
      announcer.changed(local);
      await delay(20);
      const neighbour = new Listener(true);
      listeners.push(neighbour);
      local.stored(1, true);
      announcer.changed(local);
      await delay(150);
      assert.ok(neighbour.heard.includes(1));
    });
  }
});
