import { createHash, randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { OperationError } from './operations.ts';

type Write = (bytes: Uint8Array) => Promise<void>;

/** The file appears in one step with all its bytes on disk, those that the result names, or not at all. */
export async function whole<T extends { readonly sha256: string }>(
  file: string,
  fill: (write: Write) => Promise<T>,
): Promise<T> {
  const part = `${file}.${randomBytes(4).toString('hex')}.part`;
  const hash = createHash('sha256');
  try {
    await using handle = await create(part, file);
    const result = await fill(async (bytes) => {
      hash.update(bytes);
      await handle.writeFile(bytes);
    });
    const sha256 = hash.digest('hex');
    if (sha256 !== result.sha256) {
      throw new OperationError('REFUSED', `the agent sent bytes with sha256 ${sha256}, and says ${result.sha256}`);
    }
    await handle.sync();
    await rename(part, file);
    return result;
  } finally {
    await rm(part, { force: true });
  }
}

async function create(part: string, file: string): Promise<FileHandle> {
  try {
    return await open(part, 'wx', 0o666);
  } catch (cause) {
    throw new OperationError('FAILED', `${file} cannot be written: ${(cause as Error).message}`, { cause });
  }
}
