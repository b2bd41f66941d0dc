import type { CID } from 'multiformats/cid';
import { chunkKey } from './chunk.ts';
import type { ChunkSource, GetOptions } from './chunk-source.ts';
import { Gate } from './gate.ts';
import type { Leaf, Manifest } from './manifest.ts';

export interface HttpOriginOptions {
  /** Requests at the same time; others wait. @default 4 */
  readonly connections?: number;
  /** A chunk must have arrived this many milliseconds after its request was sent. @default 15000 */
  readonly timeout?: number;
}

/** The origin answered, but not in a way that a file can be read from by ranges. Asking again will not help. */
export class UnusableOrigin extends Error {
  readonly code = 'UNUSABLE_ORIGIN';
  readonly url: string;

  constructor(url: string, why: string) {
    super(`origin ${url} ${why}`);
    this.name = 'UnusableOrigin';
    this.url = url;
  }
}

/**
 * The chunks of `manifest` out of a plain file on an http(s) server, one range request (RFC 9110, section 14) each.
 * Chunks of other artifacts, and a file that is not there (404, 410), are missing. Does not verify: the file may be
 * another version, so wrap it in `verified`.
 */
export function httpOrigin(url: string, manifest: Manifest, options: HttpOriginOptions = {}): ChunkSource {
  const { connections = 4, timeout = 15_000 } = options;
  const gate = new Gate(connections);
  const places = new Map<string, Leaf>();
  for (const leaf of manifest.leaves) if (!places.has(chunkKey(leaf.cid))) places.set(chunkKey(leaf.cid), leaf);
  return {
    async get(cid: CID, { signal }: GetOptions) {
      const leaf = places.get(chunkKey(cid));
      if (!leaf) return undefined;
      return await gate.run(
        () => fetchRange(url, leaf, manifest.size, AbortSignal.any([signal, AbortSignal.timeout(timeout)])),
        signal,
      );
    },
  };
}

async function fetchRange(url: string, leaf: Leaf, fileSize: number, signal: AbortSignal) {
  const last = leaf.offset + leaf.size - 1;
  const response = await fetch(url, {
    headers: { range: `bytes=${leaf.offset}-${last}`, 'accept-encoding': 'identity' },
    signal,
  });
  try {
    if (response.status === 404 || response.status === 410) return undefined;
    if (response.status === 200) throw new UnusableOrigin(url, 'ignores range requests (it answered 200, not 206)');
    if (response.status === 416) throw new UnusableOrigin(url, `has a file that ends before byte ${last}`);
    if (response.status !== 206) throw new Error(`origin ${url} answered ${response.status} ${response.statusText}`);
    const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
    const same = range && Number(range[1]) === leaf.offset && Number(range[2]) === last;
    if (!same) throw new UnusableOrigin(url, `answered with another range: ${response.headers.get('content-range')}`);
    if (range[3] !== '*' && Number(range[3]) !== fileSize) {
      throw new UnusableOrigin(url, `has a file of ${range[3]} bytes, the artifact has ${fileSize}`);
    }
    return await readExactly(response, leaf.size, url);
  } finally {
    // An answer that was not read to its end would keep its connection.
    await response.body?.cancel().catch(() => {});
  }
}

/** The body, which must be `size` bytes: it is cut off at the first byte too many, whatever its headers say. */
async function readExactly(response: Response, size: number, url: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(size);
  let filled = 0;
  const reader = response.body?.getReader();
  try {
    for (let part = await reader?.read(); part?.value; part = await reader?.read()) {
      if (filled + part.value.length > size)
        throw new UnusableOrigin(url, `sent more than the ${size} bytes asked for`);
      bytes.set(part.value, filled);
      filled += part.value.length;
    }
  } finally {
    reader?.releaseLock();
  }
  if (filled < size) throw new Error(`origin ${url} ended after ${filled} of ${size} bytes`);
  return bytes;
}
