import { createHash, type Hash } from 'node:crypto';
import type { Artifact } from './artifacts.ts';

/** Bytes that one line of a piece list covers; the last piece is what is left. */
export const PIECE_LIST_BYTES = 4 * 1024 * 1024;

/** Lists that are kept; one line is 65 bytes, so a list of a 4 GiB image is 65 KiB. */
const MAX_KEPT = 32;
const MAX_MAKING = 4;
const LINGER_MS = 60_000;

interface Making {
  readonly list: Promise<string>;
  readonly stop: AbortController;
  waiting: number;
  linger: NodeJS.Timeout | undefined;
}

/**
 * The sha256 of every 4 MiB of an artifact, one per line in hexadecimal: with it a machine that has nothing but
 * `sha256sum` can say which neighbour lied, and where. Made by one read of the artifact, which all who ask share. It
 * goes on for a while after the last of them has gone: a machine asks again when it ran out of patience.
 */
export class PieceLists {
  readonly #kept = new Map<string, string>();
  readonly #making = new Map<string, Making>();

  async of(cid: string, artifact: Artifact, { signal }: { readonly signal: AbortSignal }): Promise<string> {
    const kept = this.#kept.get(cid);
    if (kept !== undefined) return kept;
    const making = this.#making.get(cid) ?? this.#make(cid, artifact);
    making.waiting += 1;
    clearTimeout(making.linger);
    const gone = Promise.withResolvers<never>();
    const leave = () => gone.reject(signal.reason);
    signal.addEventListener('abort', leave, { once: true });
    try {
      signal.throwIfAborted();
      return await Promise.race([making.list, gone.promise]);
    } finally {
      signal.removeEventListener('abort', leave);
      making.waiting -= 1;
      if (making.waiting === 0 && this.#making.get(cid) === making) making.linger = this.#abandon(cid, making);
    }
  }

  #abandon(cid: string, making: Making): NodeJS.Timeout {
    const over = () => {
      this.#making.delete(cid);
      making.stop.abort(new Error('nobody waits for the list any more'));
    };
    return setTimeout(over, LINGER_MS).unref();
  }

  #make(cid: string, artifact: Artifact): Making {
    if (this.#making.size >= MAX_MAKING) throw new Error('too many piece lists are being made');
    const stop = new AbortController();
    const list = hashPieces(artifact.read({ start: 0, end: artifact.size, signal: stop.signal }))
      .then((text) => {
        if (this.#kept.size >= MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value ?? '');
        this.#kept.set(cid, text);
        return text;
      })
      .finally(() => {
        clearTimeout(making.linger);
        if (this.#making.get(cid) === making) this.#making.delete(cid);
      });
    list.catch(() => {});
    const making: Making = { list, stop, waiting: 0, linger: undefined };
    this.#making.set(cid, making);
    return making;
  }
}

async function hashPieces(source: AsyncIterable<Uint8Array>): Promise<string> {
  const lines: string[] = [];
  let hash: Hash = createHash('sha256');
  let filled = 0;
  for await (const bytes of source) {
    for (let start = 0; start < bytes.length; ) {
      const part = bytes.subarray(start, start + PIECE_LIST_BYTES - filled);
      hash.update(part);
      start += part.length;
      filled += part.length;
      if (filled < PIECE_LIST_BYTES) continue;
      lines.push(hash.digest('hex'));
      hash = createHash('sha256');
      filled = 0;
    }
  }
  if (filled > 0) lines.push(hash.digest('hex'));
  return lines.map((line) => `${line}\n`).join('');
}
