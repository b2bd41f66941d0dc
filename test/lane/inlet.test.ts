import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Inlet } from '../../src/lane/inlet.ts';
import { LANE_BITS } from '../../src/lane/lane.ts';
import { LaneRest } from '../../src/lane/lane-rest.ts';
import { silentLog } from '../../src/observe/log.ts';

suite('where chunks of a peer arrive', () => {
  for (const [name, answers, asked] of [
    ['a peer that answers too late is asked again soon', false, 2],
    ['one that says no is left in peace for longer', true, 1],
  ] as const) {
    test(name, async ({ mock }) => {
      let now = 1_000;
      mock.method(performance, 'now', () => now);
      mock.timers.enable({ apis: ['setTimeout'] });
      let asks = 0;
      const inlet = new Inlet({
        peerId: 'peer',
        host: undefined,
        port: undefined,
        log: silentLog,
        rest: new LaneRest(),
        lanes: () => LANE_BITS.plain,
        ask: () => {
          asks += 1;
        },
        invite: () => assert.fail('nobody is invited'),
        sink: () => assert.fail('nothing arrives'),
        opened: () => assert.fail('nothing opens'),
        died: () => assert.fail('nothing dies'),
      });
      inlet.want();
      if (answers) inlet.onTicket(undefined);
      now += 5_000;
      mock.timers.tick(5_000);
      await new Promise((resolve) => setImmediate(resolve));
      now += 6_000;
      inlet.want();
      assert.equal(asks, asked);
      inlet.close();
    });
  }
});
