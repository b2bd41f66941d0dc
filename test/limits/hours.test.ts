import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { type Hours, isOpen, opensNext, parseHours } from '../../src/limits/hours.ts';

const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const MINUTE = 60_000;

function hours(windows: string[], timeZone?: string): Hours {
  const parsed = parseHours(windows, timeZone);
  assert.ok(parsed, windows.join(' '));
  return parsed;
}

const utc = (text: string) => Date.parse(`${text}Z`);
const two = (value: number) => String(value).padStart(2, '0');
const clock = (minute: number) => `${two(Math.floor(minute / 60))}:${two(minute % 60)}`;

/** Minutes that Berlin is ahead of UTC: the rule of the European Union, written down once more. */
function berlinOffset(time: number): number {
  const year = new Date(time).getUTCFullYear();
  const lastSunday = (month: number) => {
    const end = new Date(Date.UTC(year, month + 1, 0, 1));
    return end.getTime() - end.getUTCDay() * 24 * 60 * MINUTE;
  };
  return time >= lastSunday(2) && time < lastSunday(9) ? 120 : 60;
}

const anyTime = fc.integer({ min: utc('2024-01-01T00:00:00'), max: utc('2031-01-01T00:00:00') });
/** Half of them in the nights on which Berlin's clocks are set. */
const time = fc.oneof(
  anyTime,
  fc
    .tuple(
      fc.constantFrom('2025-03-30', '2025-10-26', '2026-03-29', '2026-10-25'),
      fc.integer({ min: -180, max: 360 }),
      fc.integer({ min: 0, max: 59_999 }),
    )
    .map(([day, minutes, ms]) => utc(`${day}T00:00:00`) + minutes * MINUTE + ms),
);
const window = fc
  .record({
    days: fc.uniqueArray(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 7 }),
    from: fc.integer({ min: 0, max: 1439 }),
    to: fc.integer({ min: 0, max: 1440 }),
  })
  .filter(({ from, to }) => from !== to);
type Window = typeof window extends fc.Arbitrary<infer W> ? W : never;

const write = ({ days, from, to }: Window) => `${days.map((day) => DAYS[day]).join(',')} ${clock(from)}-${clock(to)}`;

/** By the wall clock's day and minute alone: today after the start, or the day after it before the end. */
function within({ days, from, to }: Window, wall: Date): boolean {
  const minute = wall.getUTCHours() * 60 + wall.getUTCMinutes();
  const today = days.includes(wall.getUTCDay());
  if (to > from) return today && minute >= from && minute < to;
  const yesterday = days.includes((wall.getUTCDay() + 6) % 7);
  return (today && minute >= from) || (yesterday && minute < to);
}

suite('hours', () => {
  test('are those that the wall clock shows, also over midnight, week-ends and the changes of the clock', () => {
    fc.assert(
      fc.property(fc.array(window, { maxLength: 3 }), time, (windows, at) => {
        const given = hours(windows.map(write), 'Europe/Berlin');
        const wall = new Date(at + berlinOffset(at) * MINUTE);
        assert.equal(
          isOpen(given, at),
          windows.some((one) => within(one, wall)),
        );
      }),
      { numRuns: 5000 },
    );
  });

  test('say when they open next, and do open then', () => {
    fc.assert(
      fc.property(fc.array(window, { minLength: 1, maxLength: 3 }), anyTime, (windows, at) => {
        const given = hours(windows.map(write), 'Etc/GMT-3');
        fc.pre(!isOpen(given, at));
        const said = opensNext(given, at);
        let next = Math.floor(at / MINUTE) * MINUTE;
        while (!isOpen(given, next)) next += MINUTE;
        const wall = new Date(next + 180 * MINUTE);
        assert.equal(said, `${DAYS[wall.getUTCDay()]} ${two(wall.getUTCHours())}:${two(wall.getUTCMinutes())}`);
      }),
      { numRuns: 300 },
    );
    assert.equal(opensNext(hours([]), 0), undefined);
  });

  test('of a night on which the clock is set', () => {
    const night = hours(['02:00-02:30'], 'Europe/Berlin');
    // 2026-03-29: 02:00 to 03:00 does not exist. 2026-10-25: it comes twice.
    const open = (from: string, minutes: number) =>
      Array.from({ length: minutes }, (_, n) => isOpen(night, utc(from) + n * MINUTE)).filter(Boolean).length;
    assert.equal(open('2026-03-28T22:00:00', 300), 0);
    assert.equal(open('2026-10-24T22:00:00', 300), 60);
    const working = hours(['Mon-Fri 18:30-07:00', 'Sat,Sun 00:00-24:00'], 'Europe/Berlin');
    assert.ok(isOpen(working, utc('2026-03-29T00:59:59')) && isOpen(working, utc('2026-03-29T01:00:00')));
    assert.ok(isOpen(working, utc('2026-03-27T20:00:00')), 'Friday night');
    assert.ok(!isOpen(working, utc('2026-03-30T06:00:00')), 'Monday morning at eight');
    assert.ok(isOpen(working, utc('2026-03-29T21:59:00')) && !isOpen(working, utc('2026-03-29T22:00:00')));
  });

  test('are those of the machine when no zone is given', () => {
    const at = utc('2026-06-01T12:34:56');
    const local = new Date(at);
    const minute = local.getHours() * 60 + local.getMinutes();
    assert.ok(isOpen(hours([`${DAYS[local.getDay()]} ${clock(minute)}-${clock(minute + 1)}`]), at));
  });

  test('that are none are refused', () => {
    const wrong = ['22-06', '22:00-22:00', '24:00-06:00', '22:60-06:00', '25:00-06:00', 'mon 22:00-06:00'];
    for (const text of [...wrong, 'Mon- 22:00-06:00', 'Mon-Tue-Wed 22:00-06:00', 'Foo 22:00-06:00', '22:00-06:00 ', ''])
      assert.equal(parseHours([text]), undefined, text);
    assert.equal(parseHours(['22:00-06:00'], 'Europe/Nowhere'), undefined);
    assert.deepEqual(parseHours(['Fri-Mon 23:00-24:00'])?.windows.length, 4);
  });
});
