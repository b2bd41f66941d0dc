import { z } from 'zod';
import { parseRate } from '../fleet/quantity.ts';

/** How values of the configuration are written: sizes, rates, watermarks. */

const SIZE_UNITS: Readonly<Record<string, number>> = { '': 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };
const BYTE_RATES: Readonly<Record<string, number>> = { k: 1e3, M: 1e6, G: 1e9, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 };
/** Less could not carry a chunk in a minute. */
const MIN_RATE = 8_000;

/** Part of the file system that the store is on, 0 to 1. */
export interface Share {
  readonly share: number;
}

/** Bytes per second of `20mbit`, `1.5Gbit` (bits, as tc counts) or `2.5MB/s`, `800KiB/s` (bytes). */
export const rate = z
  .string({ error: 'is a rate with a unit, for example 20mbit or 2.5MB/s' })
  .transform((text, context) => {
    const bytes = byteRate(text);
    if (bytes !== undefined && bytes >= MIN_RATE && bytes <= 1e12) return bytes;
    context.addIssue({ code: 'custom', message: 'is a rate from 64kbit to 8000gbit, for example 20mbit or 2.5MB/s' });
    return z.NEVER;
  });

function byteRate(text: string): number | undefined {
  const [, digits, unit] = /^(\d{1,9}(?:\.\d{1,9})?) ?([kMG]i?|Ki)?B\/s$/.exec(text) ?? [];
  if (digits !== undefined) return Number(digits) * (unit === undefined ? 1 : (BYTE_RATES[unit] ?? Number.NaN));
  const bits = parseRate(text);
  return bits === undefined ? undefined : bits / 8;
}

/** A size in bytes, or a share of the file system. */
export const watermark = z
  .union([z.number().int().positive(), z.string()])
  .transform((value, context): number | Share => {
    const text = String(value);
    const percent = Number(/^(\d{1,2}(?:\.\d{1,3})?) ?%$/.exec(text)?.[1] ?? 0);
    if (percent > 0) return { share: percent / 100 };
    const [, digits, unit] = /^(\d+(?:\.\d+)?) ?([KMGT]iB|)$/.exec(text) ?? [];
    const factor = SIZE_UNITS[unit ?? 'none'];
    if (digits !== undefined && factor !== undefined) return Math.round(Number(digits) * factor);
    context.addIssue({
      code: 'custom',
      message:
        'is a size in bytes, KiB, MiB, GiB or TiB, for example 40GiB, or a part of the file system, for example 60%',
    });
    return z.NEVER;
  });

export interface Watermarks {
  readonly high?: number | Share | undefined;
  readonly low?: number | Share | undefined;
}

/** Without a word from the operator: what a large disk lets a node keep, and no more than so much of a small one. */
const DEFAULT_HIGH = { bytes: 64 * 2 ** 30, share: 0.6 } as const;
/** How far below the high watermark GC goes: often enough to be short, seldom enough not to copy the store around. */
const DEFAULT_LOW = 0.75;

/** What is wrong with the two, as far as it can be told without the file system. */
export function watermarkFault({ high, low }: Watermarks): string | undefined {
  const value = (mark: number | Share) => (typeof mark === 'number' ? mark : mark.share);
  if (high === undefined || low === undefined || typeof high !== typeof low) return undefined;
  return value(low) < value(high) ? undefined : 'must be below store.high';
}

/**
 * The watermarks in bytes, on a file system of `total` bytes.
 * @throws RangeError when the low one is not below the high one
 */
export function watermarkBytes({ high, low }: Watermarks, total: number): { highBytes: number; lowBytes: number } {
  const bytes = (mark: number | Share) => (typeof mark === 'number' ? mark : Math.floor(mark.share * total));
  const highBytes = high === undefined ? Math.min(DEFAULT_HIGH.bytes, DEFAULT_HIGH.share * total) : bytes(high);
  const lowBytes = low === undefined ? DEFAULT_LOW * highBytes : bytes(low);
  if (lowBytes >= highBytes) {
    throw new RangeError(
      `store.low: ${lowBytes} bytes is not below store.high, ${highBytes} bytes on this file system`,
    );
  }
  return { highBytes: Math.floor(highBytes), lowBytes: Math.floor(lowBytes) };
}
