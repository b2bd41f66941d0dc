import { randomBytes } from 'node:crypto';
import { link, open, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';

/** The two ways in which this room writes. Either the whole file is there and synced, or nothing changed. */
export interface Disk {
  /** Makes `file`; false (and nothing written) when there is one of that name already. */
  create(file: string, bytes: Uint8Array): Promise<boolean>;
  /** Puts `bytes` in the place of `file`, whether there was one or not. */
  replace(file: string, bytes: Uint8Array): Promise<void>;
}

/** Files readable by their owner only, through a synced draft beside them: keys live here as well. */
export const durableDisk: Disk = {
  async create(file, bytes) {
    const draft = await writeDraft(file, bytes);
    try {
      await link(draft, file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
      throw error;
    } finally {
      await unlink(draft).catch(() => undefined);
    }
    await syncDirectory(dirname(file));
    return true;
  },

  async replace(file, bytes) {
    const draft = await writeDraft(file, bytes);
    try {
      await rename(draft, file);
    } catch (error) {
      await unlink(draft).catch(() => undefined);
      throw error;
    }
    await syncDirectory(dirname(file));
  },
};

/** Names of drafts that a crash left behind; whoever owns the directory may delete them. */
export const DRAFT_PATTERN = /\.[0-9a-f]{12}\.draft$/;

async function writeDraft(file: string, bytes: Uint8Array): Promise<string> {
  const draft = `${file}.${randomBytes(6).toString('hex')}.draft`;
  await using handle = await open(draft, 'wx', 0o600);
  await handle.writeFile(bytes);
  await handle.sync();
  return draft;
}

/** Makes the names in `directory` durable. */
export async function syncDirectory(directory: string): Promise<void> {
  await using handle = await open(directory);
  await handle.sync();
}
