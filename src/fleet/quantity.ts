const RATE_UNITS: Readonly<Record<string, number>> = { bit: 1, kbit: 1e3, mbit: 1e6, gbit: 1e9 };
const SIZE_UNITS: Readonly<Record<string, number>> = {
  b: 1,
  ...{ kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12 },
  ...{ kib: 1024, mib: 1024 ** 2, gib: 1024 ** 3, tib: 1024 ** 4 },
};
const TIME_UNITS: Readonly<Record<string, number>> = { s: 1, min: 60, h: 3600, d: 86_400 };
const QUANTITY = /^(\d{1,15}(?:\.\d{1,9})?)\s?([A-Za-z]{1,4})(?:\/s)?$/;

/** Bits per second of `20Mbit`, `1.5Gbit`, `800 kbit/s` (decimal, as `tc` counts); undefined for anything else. */
export function parseRate(text: string): number | undefined {
  return parse(text, RATE_UNITS);
}

/** Bytes of `1GiB`, `512MiB` (powers of 1024) or `20MB` (powers of 1000); undefined for anything else. */
export function parseSize(text: string): number | undefined {
  return text.endsWith('/s') ? undefined : parse(text, SIZE_UNITS);
}

/** Seconds of `90s`, `15min`, `1h` or `2d`; undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  return text.endsWith('/s') ? undefined : parse(text, TIME_UNITS);
}

/** The shortest exact text that `parseRate` reads back, e.g. 20_000_000 → `20Mbit`. */
export function formatRate(bitsPerSecond: number): string {
  return format(
    bitsPerSecond,
    [
      [1e9, 'Gbit'],
      [1e6, 'Mbit'],
      [1e3, 'kbit'],
    ],
    'bit',
  );
}

/** The shortest exact text that `parseSize` reads back, e.g. 1_073_741_824 → `1GiB`. */
export function formatSize(bytes: number): string {
  return format(
    bytes,
    [
      [1024 ** 3, 'GiB'],
      [1024 ** 2, 'MiB'],
      [1024, 'KiB'],
    ],
    'B',
  );
}

function parse(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const [, digits = '', unit = ''] = QUANTITY.exec(text) ?? [];
  const factor = Object.hasOwn(units, unit.toLowerCase()) ? units[unit.toLowerCase()] : undefined;
  if (factor === undefined) return undefined;
  const value = Math.round(Number(digits) * factor);
  return Number.isSafeInteger(value) ? value : undefined;
}

function format(value: number, units: readonly (readonly [number, string])[], base: string): string {
  const found = units.find(([factor]) => value >= factor && value % factor === 0);
  return found ? `${value / found[0]}${found[1]}` : `${value}${base}`;
}
