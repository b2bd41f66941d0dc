/** Bytes `start` up to, not including, `end`. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** More than any artifact has; a larger position is past the end anyway. */
const MAX_DIGITS = 15;

/**
 * What a Range header (RFC 9110 14.2) asks of `size` bytes: one range; `whole` when there is no header, when it is in
 * a unit or form that we do not know, or asks for several ranges (a server may ignore those, and multipart answers
 * help no booting machine); `unsatisfiable` when none of it is there.
 */
export function parseRange(header: string | undefined, size: number): ByteRange | 'whole' | 'unsatisfiable' {
  const [, first = '', last = ''] = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i.exec(header ?? '') ?? [];
  if (first === '' && last === '') return 'whole';
  if (first === '') return suffix(position(last), size);
  const start = position(first);
  const end = last === '' ? size : Math.min(position(last) + 1, size);
  if (last !== '' && position(last) < start) return 'whole';
  return start >= size ? 'unsatisfiable' : { start, end };
}

function suffix(length: number, size: number): ByteRange | 'whole' | 'unsatisfiable' {
  if (length === 0) return 'unsatisfiable';
  // A suffix of nothing is satisfiable, and has no Content-Range that could say so.
  return size === 0 ? 'whole' : { start: Math.max(0, size - length), end: size };
}

function position(digits: string): number {
  return digits.length > MAX_DIGITS ? Number.MAX_SAFE_INTEGER - 1 : Number(digits);
}
