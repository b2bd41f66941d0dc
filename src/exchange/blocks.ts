import type { CID } from 'multiformats/cid';
import type { ChunkSource, GetOptions } from '../content/chunk-source.ts';
import type { Link } from './link.ts';
import type { Like } from './packing.ts';
import { type Ask, type Asked, BLOCK_BYTES, type PendingRequest } from './request.ts';
import type { Grant, Throttle } from './throttle.ts';

export interface BlocksDeps {
  links(): Link[];
  readonly down: Throttle;
  /** Connects to members that the DHT names as providers; resolves to their links. */
  providers(cid: CID, options: GetOptions): Promise<Link[]>;
}

/** The next peer is asked as well when one has not answered for this long, milliseconds. */
const HEDGE_MS = 400;
/** Peers asked for one block before the DHT is. */
const MAX_ASKED = 16;

/**
 * Blocks by name from whoever has them: manifest nodes, mostly. Neighbours first, then the others, then those that
 * the DHT names. What comes back is verified; undefined when nobody asked has it.
 */
export class Blocks implements ChunkSource {
  readonly #deps: BlocksDeps;

  constructor(deps: BlocksDeps) {
    this.#deps = deps;
  }

  /** `like`: blocks that are here, which it may be compressed against. */
  async get(cid: CID, options: GetOptions & { readonly like?: Like | undefined }): Promise<Uint8Array | undefined> {
    options.signal.throwIfAborted();
    const connected = this.#deps
      .links()
      .map((link) => ({ link, rank: (link.near ? 0 : 2) + (link.stalled ? 4 : 0) + Math.random() }))
      .sort((a, b) => a.rank - b.rank)
      .map(({ link }) => link)
      .slice(0, MAX_ASKED);
    const { down } = this.#deps;
    const found = await askInTurn({ cid, like: options.like }, connected, down, options.signal);
    if (found !== undefined) return found;
    const providers = await this.#deps.providers(cid, options);
    return askInTurn(
      { cid, like: options.like },
      providers.filter((link) => !connected.includes(link)),
      down,
      options.signal,
    );
  }
}

/** Resolves with the first bytes, or with undefined when all have said no. */
async function askInTurn(
  block: Pick<Ask, 'cid' | 'like'>,
  links: readonly Link[],
  down: Throttle,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  if (links.length === 0) return undefined;
  const result = Promise.withResolvers<Uint8Array | undefined>();
  const asked: { link: Link; request: PendingRequest }[] = [];
  let open = links.length;
  let next = 0;
  let timer: NodeJS.Timeout | undefined;
  const over = new AbortController();
  const askNext = () => {
    clearTimeout(timer);
    const link = links[next];
    next += 1;
    if (link === undefined) return;
    const move = { near: link.near, bytes: BLOCK_BYTES, priority: 'urgent' } as const;
    down.turn(move, over).then((grant) => ask(link, grant), result.reject);
  };
  const ask = (link: Link, grant: Grant) => {
    if (link.closed || over.signal.aborted) {
      grant.dropped();
      return fail();
    }
    timer = setTimeout(askNext, HEDGE_MS);
    const [request] = link.ask(owner, [{ ...block, size: undefined, priority: 'urgent' }]);
    if (request) asked.push({ link, request });
  };
  const fail = () => {
    open -= 1;
    if (open === 0) return result.resolve(undefined);
    askNext();
  };
  const owner = { bytes: (_: Asked, __: PendingRequest, bytes: Uint8Array) => result.resolve(bytes), ended: fail };
  const abort = () => result.reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  askNext();
  try {
    return await result.promise;
  } finally {
    over.abort();
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
    for (const { link, request } of asked) link.cancel([request]);
  }
}
