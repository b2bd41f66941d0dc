import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import type { Lease } from './lease-table.ts';

const schema = z.strictObject({
  version: z.literal(1),
  leases: z
    .array(
      z.strictObject({
        address: z.ipv4(),
        mac: z.string().regex(/^[0-9a-f:]{1,47}$/),
        expiresAt: z.number().int(),
      }),
    )
    .max(65_536),
});

/**
 * The bound leases of the last run, none when there was no run.
 * @throws Error with the file's name when it is damaged; the caller may go on without it, clients keep their addresses
 * by the hash and by being probed.
 */
export async function readLeases(file: string): Promise<Lease[]> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return [];
  try {
    return schema.parse(JSON.parse(text)).leases.map((lease) => ({ ...lease, state: 'bound' as const }));
  } catch (cause) {
    throw new Error(`${file} holds no leases: ${(cause as Error).message}`, { cause });
  }
}

/** Replaces the file at once or not at all, and returns when it is on disk. */
export async function writeLeases(file: string, leases: readonly Lease[]): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  const rows = leases.map(({ address, mac, expiresAt }) => ({ address, mac, expiresAt }));
  const handle = await open(`${file}.new`, 'w');
  try {
    await handle.writeFile(`${JSON.stringify({ version: 1, leases: rows })}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(`${file}.new`, file);
}
