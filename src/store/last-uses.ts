/** `used` of a chunk of which we do not know when that was: before all others. */
export const NEVER = -(2 ** 30);

/** What an index entry says of it. */
interface Use {
  readonly offset: number;
  used: number;
}

const IDENTITY_BYTES = 16;
const ROW_BYTES = 8;

/**
 * When the chunks of a segment were last used, as a row of the index: the segment's identity, then for each chunk, in
 * order, `u32` its offset and `u32` the seconds since. The time that the agent is off does not count.
 */
export function encodeLastUses(identity: string, entries: readonly Use[], now: number): Buffer {
  const known = entries
    .filter(({ used, offset }) => used > NEVER && offset < 2 ** 32)
    .sort((a, b) => a.offset - b.offset);
  const row = Buffer.alloc(IDENTITY_BYTES + known.length * ROW_BYTES);
  row.write(identity, 'hex');
  for (const [i, { offset, used }] of known.entries()) {
    row.writeUInt32BE(offset, IDENTITY_BYTES + i * ROW_BYTES);
    row.writeUInt32BE(now - used, IDENTITY_BYTES + i * ROW_BYTES + 4);
  }
  return row;
}

/** Sets `used` of those `entries`, of one segment, that the row tells of: 0 and below, so many seconds before now. */
export function decodeLastUses(row: Buffer, identity: string, entries: readonly Use[]): void {
  if (row.toString('hex', 0, IDENTITY_BYTES) !== identity) return;
  const inOrder = [...entries].sort((a, b) => a.offset - b.offset);
  let at = IDENTITY_BYTES;
  for (const entry of inOrder) {
    while (at + ROW_BYTES <= row.length && row.readUInt32BE(at) < entry.offset) at += ROW_BYTES;
    if (at + ROW_BYTES > row.length) return;
    if (row.readUInt32BE(at) === entry.offset) entry.used = Math.max(NEVER, -row.readUInt32BE(at + 4));
  }
}
