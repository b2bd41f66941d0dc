import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { askLab, type LabActs, perform, serveLab } from '../../src/lab/lab-server.ts';
import { LabNotFound } from '../../src/lab/lab-state.ts';

const signal = () => AbortSignal.timeout(5_000);

async function socketOf(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'bm-server-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return join(folder, 'lab.sock');
}

test('what is asked is done, told as it goes, and answered; an error keeps its code', async (t) => {
  const path = await socketOf(t);
  await using _ = await serveLab(path, async ({ verb, args }, { onEvent }) => {
    onEvent({ type: 'seen', verb });
    if (verb === 'heal') throw LabNotFound.unknown('site', 'x', ['a', 'b']);
    return { args };
  });
  const events: object[] = [];
  const onEvent = (event: object) => events.push(event);
  const request = { verb: 'partition', args: ['a', 'b'] } as const;
  const answer = await askLab(path, { ...request, args: [...request.args] }, { signal: signal(), onEvent });
  assert.deepEqual([answer, events], [{ args: ['a', 'b'] }, [{ type: 'seen', verb: 'partition' }]]);
  await assert.rejects(askLab(path, { verb: 'heal', args: [] }, { signal: signal() }), {
    code: 'LAB_NOT_FOUND',
    message: "the lab has no site 'x': it has a, b",
  });
});

test('nobody there, somebody who leaves, and a line that is no request', async (t) => {
  const path = await socketOf(t);
  await assert.rejects(askLab(path, { verb: 'heal', args: [] }, { signal: signal() }), { code: 'LAB_NOT_FOUND' });
  const gone = Promise.withResolvers<void>();
  await using _ = await serveLab(path, async (_request, options) => {
    options.signal.addEventListener('abort', () => gone.resolve());
    await gone.promise;
    return {};
  });
  const leaving = new AbortController();
  const asked = askLab(path, { verb: 'start', args: ['a'] }, { signal: leaving.signal });
  setTimeout(() => leaving.abort(), 50);
  await assert.rejects(asked, { name: 'AbortError' });
  await gone.promise;
  const socket = connect(path);
  socket.write('{"verb":"explode","args":[]}\n');
  assert.match(await text(socket), /^\{"error":\{"code":"FAILED",/);
});

test('each verb is one act of the lab', async () => {
  const acts: string[] = [];
  const act =
    (name: string) =>
    async (...args: unknown[]) => {
      acts.push([name, ...args.filter((arg) => typeof arg === 'string')].join(' '));
    };
  const cycle = { site: 's', nodes: ['n'], milliseconds: 1 };
  const lab: LabActs = {
    cuts: [['a', 'b']],
    partition: act('partition'),
    heal: act('heal'),
    powerCycle: async (site) => {
      acts.push(`cycle ${site}`);
      return cycle;
    },
    startNode: act('start'),
    stopNode: act('stop'),
    pid: () => 7,
  };
  const answers = [
    await perform(lab, { verb: 'partition', args: ['a', 'b'] }, signal()),
    await perform(lab, { verb: 'partition', args: ['a'] }, signal()),
    await perform(lab, { verb: 'heal', args: [] }, signal()),
    await perform(lab, { verb: 'power-cycle', args: ['s'] }, signal()),
    await perform(lab, { verb: 'start', args: ['n'] }, signal()),
    await perform(lab, { verb: 'stop', args: ['n'] }, signal()),
  ];
  const cuts = { cuts: lab.cuts };
  assert.deepEqual(answers, [cuts, cuts, cuts, cycle, { node: 'n', pid: 7 }, { node: 'n' }]);
  assert.deepEqual(acts, ['partition a b', 'partition a', 'heal', 'cycle s', 'start n', 'stop n']);
});
