/** What chunk `index` of the payload is: a tag that stands for its bytes and is compared as a hash is. */
export function trueTag(index: number): number {
  return Math.imul(index + 1, 0x9e3779b1) >>> 0;
}

/** Bytes that no chunk of the payload has. */
export function falseTag(index: number): number {
  return (trueTag(index) ^ 0x5bd1e995) >>> 0;
}

/** Chunks that are held and are not the payload's, of a store's tags (0 for a chunk that is not held). */
export function wrongIn(tags: Uint32Array): number {
  return tags.reduce((wrong, tag, index) => wrong + (tag === 0 || tag === trueTag(index) ? 0 : 1), 0);
}

/** The store holds the whole payload. */
export function isPayload(tags: Uint32Array): boolean {
  return tags.every((tag, index) => tag === trueTag(index));
}
