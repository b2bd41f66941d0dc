/** What chunk `index` of the payload is: a tag that stands for its bytes and is compared as a hash is. */
export function trueTag(index: number): number {
  return Math.imul(index + 1, 0x9e3779b1) >>> 0;
}

/** Bytes that no chunk of the payload has. */
export function falseTag(index: number): number {
  return (trueTag(index) ^ 0x5bd1e995) >>> 0;
}
