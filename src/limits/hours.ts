const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'] as const;
const DAY_MINUTES = 24 * 60;
const WEEK_MINUTES = 7 * DAY_MINUTES;

/** Hours of the week in which something may run. Minutes are those of a wall clock, counted from Sunday 00:00. */
export interface Hours {
  /** Each from its start (included) to its end (excluded); the end may lie in the next week. */
  readonly windows: readonly { readonly from: number; readonly to: number }[];
  /** IANA name of the clock's zone; undefined is that of the machine. */
  readonly timeZone: string | undefined;
}

/** What a window may look like; for messages. */
export const HOURS_FORM = '[DAYS ]HH:MM-HH:MM, for example 22:00-06:00 or Mon-Fri 18:30-07:00 or Sat,Sun 00:00-24:00';

const WINDOW = /^(?:([A-Z][a-z]{2}(?:[-,][A-Z][a-z]{2})*) )?(\d\d):(\d\d)-(\d\d):(\d\d)$/;

/**
 * Windows such as `22:00-06:00` (every day, ends on the next one) and `Mon-Fri 18:30-07:00` (the days on which it
 * begins). Undefined when one of the texts is no window or the zone is unknown.
 */
export function parseHours(windows: readonly string[], timeZone?: string): Hours | undefined {
  if (timeZone !== undefined && !isTimeZone(timeZone)) return undefined;
  const parsed = windows.map(parseWindow);
  if (parsed.some((window) => window === undefined)) return undefined;
  return { windows: parsed.flatMap((window) => window ?? []), timeZone };
}

export function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

function parseWindow(text: string): { from: number; to: number }[] | undefined {
  const [, days, fromHour, fromMinute, toHour, toMinute] = WINDOW.exec(text) ?? [];
  const from = minuteOf(fromHour, fromMinute);
  const to = minuteOf(toHour, toMinute);
  const on = days === undefined ? DAYS.map((_, day) => day) : parseDays(days);
  if (from === undefined || to === undefined || on === undefined || from === DAY_MINUTES || from === to)
    return undefined;
  const length = to > from ? to - from : to + DAY_MINUTES - from;
  return on.map((day) => ({ from: day * DAY_MINUTES + from, to: day * DAY_MINUTES + from + length }));
}

/** Minutes since midnight; 24:00 is the end of the day. */
function minuteOf(hour: string | undefined, minute: string | undefined): number | undefined {
  const minutes = Number(hour) * 60 + Number(minute);
  return Number(minute) < 60 && minutes <= DAY_MINUTES ? minutes : undefined;
}

/** `Mon-Fri`, `Sat,Sun`, `Fri-Mon,Wed`. */
function parseDays(text: string): number[] | undefined {
  const days = new Set<number>();
  for (const part of text.split(',')) {
    const [first = -1, last = first, more] = part.split('-').map((name) => DAYS.indexOf(name as (typeof DAYS)[number]));
    if (first < 0 || last < 0 || more !== undefined) return undefined;
    for (let day = first; ; day = (day + 1) % 7) {
      days.add(day);
      if (day === last) break;
    }
  }
  return [...days];
}

/**
 * True when the wall clock at `time` (milliseconds since 1970 UTC) is within a window. On the night on which a clock is
 * set back, the hour that comes twice is open twice; an hour that is left out is not made up for.
 */
export function isOpen(hours: Hours, time: number): boolean {
  return openAt(hours, wallClock(hours, time));
}

/** When a closed window opens next, as its wall clock will show it: `Mon 22:00`. Undefined when there is no window. */
export function opensNext(hours: Hours, time: number): string | undefined {
  const now = wallClock(hours, time);
  const waits = hours.windows.map(({ from }) => (from - now + WEEK_MINUTES) % WEEK_MINUTES);
  if (waits.length === 0) return undefined;
  const minute = (now + Math.min(...waits)) % WEEK_MINUTES;
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0');
  return `${DAYS[Math.floor(minute / DAY_MINUTES)]} ${two((minute % DAY_MINUTES) / 60)}:${two(minute % 60)}`;
}

function openAt({ windows }: Hours, minute: number): boolean {
  return windows.some(({ from, to }) => {
    return (minute >= from && minute < to) || (minute + WEEK_MINUTES >= from && minute + WEEK_MINUTES < to);
  });
}

/** Minutes since Sunday 00:00 that a clock in the zone shows. */
function wallClock({ timeZone }: Hours, time: number): number {
  const parts = clockOf(timeZone).formatToParts(time);
  const part = (type: Intl.DateTimeFormatPartTypes) => parts.find((one) => one.type === type)?.value ?? '';
  const day = DAYS.indexOf(part('weekday') as (typeof DAYS)[number]);
  return day * DAY_MINUTES + Number(part('hour')) * 60 + Number(part('minute'));
}

/** Making one takes about 50 µs; a node has one zone. */
const clocks = new Map<string | undefined, Intl.DateTimeFormat>();

function clockOf(timeZone: string | undefined): Intl.DateTimeFormat {
  const known = clocks.get(timeZone);
  if (known !== undefined) return known;
  const clock = new Intl.DateTimeFormat('en-US', {
    ...(timeZone !== undefined && { timeZone }),
    weekday: 'short',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  });
  clocks.set(timeZone, clock);
  return clock;
}
