import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { FleetClock, WRITTEN } from '../../src/enrolment/fleet-clock.ts';
import { RecordedLog } from '../fakes/recorded-log.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const YEAR_MS = 365 * DAY_MS;
/** Some day on which fleets run. */
const NOW = WRITTEN + 200 * DAY_MS;

/** A machine whose clock shows what it is set to; `pass` lets time go by. */
async function machine(t: TestContext, shows = NOW) {
  const folder = await mkdtemp(join(tmpdir(), 'bm-clock-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, 'fleet', 'clock.json');
  const log = new RecordedLog();
  const clocks = { system: shows, elapsed: 0 };
  const open = () => FleetClock.open(file, { log, system: () => clocks.system, elapsed: () => clocks.elapsed });
  const pass = (ms: number) => {
    clocks.system += ms;
    clocks.elapsed += ms;
  };
  /** A floor on disk, as an earlier run left it. */
  const start = async (floor?: number) => {
    await (await open())[Symbol.asyncDispose]();
    if (floor !== undefined) await writeFile(file, JSON.stringify({ format: 1, floor }), { mode: 0o600 });
    return await open();
  };
  return { file, log, clocks, open, pass, start };
}

suite('fleet clock', () => {
  test('is the machine’s, and never before this program was written', async (t) => {
    const { open, clocks, pass } = await machine(t);
    const clock = await open();
    pass(HOUR_MS);
    assert.deepEqual([clock.now(), clock.fault], [NOW + HOUR_MS, undefined]);
    clocks.system = 0;
    assert.equal(clock.now(), WRITTEN + HOUR_MS, 'what has passed since the start is over as well');
    assert.equal(clock.fault?.kind, 'behind');
  });

  test('one that was set back shows what was signed last, also after a restart, and time goes on', async (t) => {
    const { start, open, clocks, pass, log } = await machine(t);
    const clock = await start(NOW - 20 * DAY_MS);
    clock.signed(NOW - HOUR_MS);
    clocks.system = NOW - 100 * DAY_MS;
    assert.equal(clock.now(), NOW - HOUR_MS);
    pass(2 * HOUR_MS);
    assert.equal(clock.now(), NOW + HOUR_MS);
    await clock[Symbol.asyncDispose]();
    const again = await open();
    assert.equal(again.now(), NOW + HOUR_MS);
    const told = log.lines.filter(({ level }) => level === 'error');
    assert.equal(told.length, 2, 'once in each run');
    assert.match(`${told[0]?.['advice']}`, /set it; if it is right now .* delete .*clock\.json/);
    clocks.system = NOW + 2 * HOUR_MS;
    assert.deepEqual([again.now(), again.fault], [NOW + 2 * HOUR_MS, undefined]);
  });

  test('what somebody signs ahead of a clock that may be right moves nothing', async (t) => {
    const { start, clocks, pass, log } = await machine(t);
    const clock = await start(NOW - DAY_MS);
    clock.signed(NOW + 10 * YEAR_MS);
    clock.signed(Number.MAX_SAFE_INTEGER * 1000);
    assert.equal(clock.now(), NOW);
    assert.deepEqual(clock.fault, { kind: 'ahead', system: NOW, signed: NOW + 10 * YEAR_MS });
    assert.equal(log.lines.at(-1)?.level, 'warn');
    clock.signed(NOW - HOUR_MS);
    pass(HOUR_MS);
    clocks.system = NOW - 2 * HOUR_MS;
    assert.equal(clock.now(), NOW + 10 * YEAR_MS + HOUR_MS, 'a clock that is certainly wrong follows it');
    clocks.system = NOW + HOUR_MS;
    assert.equal(clock.now(), NOW + HOUR_MS, '…until it is set');
  });

  test('a clock and an issuer that are both wrong by years, for an hour, leave nothing behind', async (t) => {
    const { start, open, clocks, pass } = await machine(t);
    const clock = await start(NOW - DAY_MS);
    clocks.system = NOW + 10 * YEAR_MS;
    clock.signed(NOW + 10 * YEAR_MS);
    pass(HOUR_MS);
    clock.now();
    clocks.system = NOW + HOUR_MS;
    assert.equal(clock.now(), NOW + HOUR_MS);
    await clock[Symbol.asyncDispose]();
    assert.equal((await open()).now(), NOW + HOUR_MS);
  });

  test('a long step counts once the clock has borne it out for a quarter of a day', async (t) => {
    const { start, clocks, pass } = await machine(t);
    const clock = await start();
    clock.signed(NOW);
    pass(5 * HOUR_MS);
    clock.signed(NOW + 4 * HOUR_MS);
    pass(HOUR_MS);
    clock.now();
    clocks.system = NOW - DAY_MS;
    assert.equal(clock.now(), NOW + 4 * HOUR_MS);
    assert.equal(clock.fault?.kind, 'behind');
  });

  test('is written while it runs; a file that is damaged is told, and counts as nothing', async (t) => {
    const { file, start, open, log, clocks } = await machine(t);
    const clock = await start(NOW - 2 * DAY_MS);
    clock.signed(NOW);
    const until = performance.now() + 10_000;
    const kept = async () => JSON.parse(await readFile(file, 'utf8')).floor;
    while ((await kept()) !== NOW && performance.now() < until) await delay(50);
    assert.equal(await kept(), NOW);
    await writeFile(file, '{"format":1,"floor":1e99}');
    clocks.system = 0;
    assert.equal((await open()).now(), WRITTEN);
    assert.equal(log.lines.filter(({ sentence }) => /cannot be read/.test(sentence)).length, 1);
  });
});
