import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

/** A file is there and may not be used as it is; `problem` says why and what to do, without the file's name. */
export class FileUnusable extends Error {
  readonly code = 'FILE_UNUSABLE';
  readonly reason: 'unreadable' | 'exposed' | 'corrupt';
  readonly file: string;
  readonly problem: string;

  constructor(reason: FileUnusable['reason'], file: string, problem: string, options?: ErrorOptions) {
    super(`${file} ${problem}`, options);
    this.name = 'FileUnusable';
    this.reason = reason;
    this.file = file;
    this.problem = problem;
  }
}

export interface GuardedFile {
  /** A larger file is none of ours; it is not read. */
  readonly maxBytes: number;
  /** Nobody but its owner may read or write it. @default true */
  readonly secret?: boolean;
}

/** All of a small regular file; undefined when there is none. Rejects with `FileUnusable`. */
export async function readGuarded(file: string, { maxBytes, secret = true }: GuardedFile): Promise<Buffer | undefined> {
  let handle: FileHandle;
  try {
    // A link or a device in the file's place is not ours; O_NONBLOCK keeps a named pipe from holding us up.
    handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw unreadable(file, error);
  }
  await using _ = handle;
  const stat = await handle.stat();
  if (!stat.isFile()) throw new FileUnusable('corrupt', file, 'is no regular file: move it away');
  if (secret && (stat.mode & 0o077) !== 0) {
    const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
    const advice = `\`chmod 600 ${file}\`, and replace the key if others may have read it`;
    throw new FileUnusable('exposed', file, `has mode ${mode}, so others may use it: run ${advice}`);
  }
  if (stat.size > maxBytes) {
    throw new FileUnusable(
      'corrupt',
      file,
      `has ${stat.size} bytes, and may have ${maxBytes}: restore it from a backup`,
    );
  }
  return await handle.readFile().catch((error: unknown) => {
    throw unreadable(file, error);
  });
}

function unreadable(file: string, cause: unknown): FileUnusable {
  const problem = `cannot be read (${(cause as Error).message}): run as its owner, or fix its permissions`;
  return new FileUnusable('unreadable', file, problem, { cause });
}
