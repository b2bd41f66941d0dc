/** Numbers in [0, 1). */
export type Random = () => number;

/** A generator that follows from `seed`: sfc32 (Doty-Humphrey), whose 15 first words are thrown away as its author asks. */
export function seededRandom(seed: number): Random {
  let a = 0x9e3779b9;
  let b = 0x243f6a88;
  let c = seed | 0;
  let counter = 1;
  const next = () => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let n = 0; n < 15; n += 1) next();
  return next;
}

/** `count` different members of `list`, in random order; all of them when there are no more. */
export function sample<T>(list: readonly T[], count: number, random: Random): T[] {
  const rest = [...list];
  const taken = Math.min(count, rest.length);
  for (let n = 0; n < taken; n += 1) {
    const other = n + Math.floor(random() * (rest.length - n));
    const picked = rest[other] as T;
    rest[other] = rest[n] as T;
    rest[n] = picked;
  }
  return rest.slice(0, taken);
}

/** Time until the next of events that come `perMs` a millisecond on average, independently of each other. */
export function waiting(perMs: number, random: Random): number {
  return perMs > 0 ? -Math.log(1 - random()) / perMs : Number.POSITIVE_INFINITY;
}
