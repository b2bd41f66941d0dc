import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type MemberQuestions, Whereabouts } from '../../src/overlay/whereabouts.ts';
import { RecordedLog } from '../fakes/recorded-log.ts';

type Provider = Parameters<MemberQuestions['serve']>[1];

/** A member's whereabouts as gateways answer them, and how often they were asked. */
function asking(answers: Readonly<Record<string, string | Error | undefined>>) {
  const asked: string[] = [];
  let served: Provider | undefined;
  let news = 0;
  const network: MemberQuestions = {
    peers: () => Object.keys(answers),
    ask: async (peer, name) => {
      asked.push(`${peer} ${name}`);
      const answer = answers[peer];
      if (answer instanceof Error) throw answer;
      return answer === undefined ? undefined : Buffer.from(answer);
    },
    serve: (_, provider) => {
      served = provider;
    },
  };
  const whereabouts = new Whereabouts({
    network,
    seen: (peerId, from) => (peerId === 'known' && from === 'friend' ? '198.51.100.9:7' : undefined),
    isGateway: (peerId) => peerId.startsWith('gate'),
    onNews: () => {
      news += 1;
    },
    log: new RecordedLog(),
  });
  return { whereabouts, asked, news: () => news, serve: (name: string, from: string) => served?.(name, from) };
}

suite('whereabouts', () => {
  test('are what gateways have seen; what is none counts nothing', async () => {
    const { whereabouts, asked, news } = asking({
      gate1: '198.51.100.7:40000',
      other: '198.51.100.8:1',
      gate2: new Error('gone'),
      gate3: 'evil.example:51820',
      gate4: '198.51.100.7:40000',
    });
    assert.deepEqual(whereabouts.of('b'), []);
    assert.deepEqual(whereabouts.of('b'), [], 'once at a time');
    await delay(1);
    assert.deepEqual(whereabouts.of('b'), ['198.51.100.7:40000']);
    assert.deepEqual(asked, ['gate1 overlay/seen/b', 'gate2 overlay/seen/b', 'gate3 overlay/seen/b']);
    assert.equal(news(), 1);
  });

  test('of a gateway are asked of the others, and of nobody where there is none', async () => {
    const { whereabouts, asked } = asking({ gate1: undefined });
    whereabouts.of('gate1');
    await delay(1);
    assert.deepEqual(asked, []);
    whereabouts.of('b');
    await delay(1);
    assert.deepEqual(whereabouts.of('b'), [], 'nobody knows, and is not asked again at once');
    assert.equal(asked.length, 1);
  });

  test('are told to whom they may be told', async () => {
    const { serve } = asking({});
    assert.equal(Buffer.from((await serve('overlay/seen/known', 'friend')) ?? '').toString(), '198.51.100.9:7');
    assert.equal(await serve('overlay/seen/known', 'neighbour'), undefined);
    assert.equal(await serve('overlay/seen/', 'friend'), undefined);
  });
});
