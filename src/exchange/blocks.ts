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
const HEDGE_MS = 100;
/** So many neighbours are asked at once: the answer is mostly no, and short. */
const AT_ONCE = 8;
/** Who gave the last block is asked before others like it within this time, milliseconds: it has the next ones, too. */
const GIVER_MS = 10_000;
/** Peers asked for one block before the DHT is. */
const MAX_ASKED = 16;

/**
 * Blocks by name from whoever has them: manifest nodes, mostly. Neighbours first, then the others, then those that
 * the DHT names. What comes back is verified; undefined when nobody asked has it.
 */
export class Blocks implements ChunkSource {
  readonly #deps: BlocksDeps;
  #giver: { readonly link: Link; readonly at: number } | undefined;

  constructor(deps: BlocksDeps) {
    this.#deps = deps;
  }

  /** `like`: blocks that are here, which it may be compressed against. */
  async get(cid: CID, options: GetOptions & { readonly like?: Like | undefined }): Promise<Uint8Array | undefined> {
    options.signal.throwIfAborted();
    const connected = this.#deps
      .links()
      .map((link) => ({ link, rank: this.#rankOf(link) }))
      .sort((a, b) => a.rank - b.rank)
      .map(({ link }) => link)
      .slice(0, MAX_ASKED);
    const { down } = this.#deps;
    const block = { cid, like: options.like };
    const alone = connected[0] !== undefined && this.#isGiver(connected[0]);
    let found = await askInTurn(block, connected, { down, alone }, options.signal);
    if (found === undefined) {
      const providers = await this.#deps.providers(cid, options);
      const others = providers.filter((link) => !connected.includes(link));
      found = await askInTurn(block, others, { down, alone: false }, options.signal);
    }
    if (found !== undefined) this.#giver = { link: found.link, at: performance.now() };
    return found?.bytes;
  }

  #isGiver(link: Link): boolean {
    return this.#giver?.link === link && performance.now() - this.#giver.at < GIVER_MS;
  }

  /** The lower, the sooner. */
  #rankOf(link: Link): number {
    return (this.#isGiver(link) ? -1 : 0) + (link.near ? 0 : 2) + (link.stalled ? 4 : 0) + Math.random();
  }
}

interface Found {
  readonly bytes: Uint8Array;
  readonly link: Link;
}

/**
 * Resolves with the first bytes, or with undefined when all have said no.
 * @param alone the first link is asked alone at first: it will have the block
 */
async function askInTurn(
  block: Pick<Ask, 'cid' | 'like'>,
  links: readonly Link[],
  { down, alone }: { readonly down: Throttle; readonly alone: boolean },
  signal: AbortSignal,
): Promise<Found | undefined> {
  if (links.length === 0) return undefined;
  const result = Promise.withResolvers<Found | undefined>();
  const asked: { link: Link; request: PendingRequest }[] = [];
  let open = links.length;
  let next = 0;
  let timer: NodeJS.Timeout | undefined;
  const over = new AbortController();
  const askNext = () => {
    const link = links[next];
    next += 1;
    if (link === undefined) return;
    const move = { near: link.near, bytes: BLOCK_BYTES, priority: 'urgent' } as const;
    down.turn(move, over).then((grant) => ask(link, grant), result.reject);
  };
  // What comes twice should not cross the uplink.
  const askMore = () => {
    askNext();
    while (next < AT_ONCE && links[next - 1]?.near && links[next]?.near) askNext();
  };
  const ask = (link: Link, grant: Grant) => {
    if (link.closed || over.signal.aborted) {
      grant.dropped();
      return fail();
    }
    clearTimeout(timer);
    timer = setTimeout(askMore, HEDGE_MS);
    const [request] = link.ask(owner, [{ ...block, size: undefined, priority: 'urgent' }]);
    if (request) asked.push({ link, request });
  };
  const fail = () => {
    open -= 1;
    if (open === 0) return result.resolve(undefined);
    askMore();
  };
  const bytes = (from: Asked, _: PendingRequest, given: Uint8Array) => {
    const link = links.find((one) => one === from);
    if (link) result.resolve({ bytes: given, link });
  };
  const owner = { bytes, ended: fail };
  const abort = () => result.reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  if (alone) askNext();
  else askMore();
  try {
    return await result.promise;
  } finally {
    over.abort();
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
    for (const { link, request } of asked) link.cancel([request]);
  }
}
