import { createCipheriv, createHash } from 'node:crypto';

/** Numbers in [0, 1). */
export type Random = () => number;

/** Random numbers that follow from `seed`. */
export function seeded(seed: string): Random {
  let state = createHash('sha256').update(seed).digest();
  return () => {
    state = createHash('sha256').update(state).digest();
    return state.readUInt32BE() / 2 ** 32;
  };
}

/** Bytes that follow from `seed`, do not compress, and hold nothing twice. */
export function seededBytes(seed: string, length: number): Buffer {
  const key = createHash('sha256').update(seed).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}
