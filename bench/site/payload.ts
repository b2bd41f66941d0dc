import { createCipheriv, createHash } from 'node:crypto';
import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Payload } from './contender.ts';

const PIECE = 4 * 1024 * 1024;

/** Writes a file that looks random, cannot be compressed, and is the same for equal seeds (AES-CTR's key stream). */
export async function makePayload(path: string, bytes: number, seed: number): Promise<Payload> {
  await mkdir(dirname(path), { recursive: true });
  const key = createHash('sha256').update(`bootmesh bench payload ${seed}`).digest().subarray(0, 16);
  const stream = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  const hash = createHash('sha256');
  const zeros = Buffer.alloc(PIECE);
  await using file = await open(path, 'wx');
  for (let left = bytes; left > 0; left -= PIECE) {
    const piece = stream.update(zeros.subarray(0, Math.min(PIECE, left)));
    hash.update(piece);
    await file.writeFile(piece);
  }
  await file.sync();
  return { path, bytes, sha256: hash.digest('hex') };
}
