/**
 * One member of a cpio archive. `path` has no leading slash; owner and group are always root, times always zero, so
 * that the same members give the same bytes.
 */
export type CpioEntry =
  | { readonly kind: 'directory'; readonly path: string; readonly mode: number }
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly data: Uint8Array }
  | { readonly kind: 'link'; readonly path: string; readonly target: string }
  | {
      readonly kind: 'character';
      readonly path: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

/** The format has 32-bit sizes; the kernel's unpacker refuses longer names (PATH_MAX). */
const MAX_FILE_BYTES = 0xffff_ffff;
const MAX_NAME_BYTES = 4095;
const TYPE = { directory: 0o040000, file: 0o100000, link: 0o120000, character: 0o020000 } as const;
const TRAILER = 'TRAILER!!!';

/** An entry that the format cannot hold, or that would land outside the archive's root. */
export class CpioError extends Error {
  override readonly name = 'CpioError';
  readonly code = 'CPIO_ENTRY';
  readonly path: string;
  constructor(path: string, why: string) {
    super(`cannot put ${JSON.stringify(path)} into an initramfs: ${why}`);
    this.path = path;
  }
}

/**
 * A cpio archive in the "newc" form (magic 070701), which the Linux kernel unpacks as an initramfs: see
 * Documentation/driver-api/early-userspace/buffer-format.rst in its source. Members are sorted by path; missing parent
 * directories are added with mode 0755. Of equal paths the last one counts.
 * @throws CpioError
 */
export function writeCpio(entries: Iterable<CpioEntry>): Uint8Array {
  const pieces: Uint8Array[] = [];
  let inode = 1;
  for (const entry of complete(entries)) {
    pieces.push(...member(entry, inode++));
  }
  pieces.push(header({ name: TRAILER, inode: 0, mode: 0, links: 1, size: 0, major: 0, minor: 0 }));
  return Buffer.concat(pieces);
}

function complete(entries: Iterable<CpioEntry>): CpioEntry[] {
  const byPath = new Map<string, CpioEntry>();
  for (const entry of entries) {
    checkPath(entry.path);
    byPath.set(entry.path, entry);
  }
  for (const path of [...byPath.keys()]) {
    for (let cut = path.indexOf('/'); cut > 0; cut = path.indexOf('/', cut + 1)) {
      const parent = path.slice(0, cut);
      const known = byPath.get(parent);
      if (known === undefined) byPath.set(parent, { kind: 'directory', path: parent, mode: 0o755 });
      else if (known.kind !== 'directory') throw new CpioError(path, `${parent} is not a directory`);
    }
  }
  return [...byPath.values()].toSorted((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)));
}

function checkPath(path: string): void {
  if (path === '' || path === TRAILER || path.includes('\0')) throw new CpioError(path, 'not a file name');
  if (Buffer.byteLength(path) > MAX_NAME_BYTES) throw new CpioError(path, `longer than ${MAX_NAME_BYTES} bytes`);
  if (path.split('/').some((part) => part === '' || part === '.' || part === '..')) {
    throw new CpioError(path, 'paths are relative to the root and plain (no empty part, "." or "..")');
  }
}

function member(entry: CpioEntry, inode: number): Uint8Array[] {
  const data = content(entry);
  if (data.length > MAX_FILE_BYTES) throw new CpioError(entry.path, 'larger than 4 GiB');
  const head = header({
    name: entry.path,
    inode,
    mode: TYPE[entry.kind] | (entry.kind === 'link' ? 0o777 : entry.mode & 0o7777),
    links: entry.kind === 'directory' ? 2 : 1,
    size: data.length,
    major: entry.kind === 'character' ? entry.major : 0,
    minor: entry.kind === 'character' ? entry.minor : 0,
  });
  return [head, data, new Uint8Array(padding(data.length))];
}

function content(entry: CpioEntry): Uint8Array {
  if (entry.kind === 'file') return entry.data;
  return entry.kind === 'link' ? Buffer.from(entry.target) : new Uint8Array(0);
}

interface Head {
  readonly name: string;
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly size: number;
  readonly major: number;
  readonly minor: number;
}

/** Thirteen 8-digit hexadecimal fields after the magic, then the name with its NUL, padded to 4 bytes. */
function header(head: Head): Uint8Array {
  const name = Buffer.from(`${head.name}\0`);
  const uid = 0;
  const gid = 0;
  const mtime = 0;
  const numbers = [head.inode, head.mode, uid, gid, head.links, mtime, head.size, 0, 0, head.major, head.minor];
  const fields = [...numbers, name.length, 0].map((field) => field.toString(16).padStart(8, '0'));
  const text = Buffer.from(`070701${fields.join('')}`);
  return Buffer.concat([text, name, new Uint8Array(padding(text.length + name.length))]);
}

function padding(length: number): number {
  return (4 - (length % 4)) % 4;
}
