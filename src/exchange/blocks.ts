import { setTimeout as delay } from 'node:timers/promises';
import type { CID } from 'multiformats/cid';
import type { ChunkSource, GetOptions } from '../content/chunk-source.ts';
import type { Link } from './link.ts';
import type { Like } from './packing.ts';
import { type Ask, type Asked, BLOCK_BYTES, type PendingRequest } from './request.ts';
import type { Grant, Throttle } from './throttle.ts';

export interface BlocksDeps {
  links(): Link[];
  /** The fleet's description calls it an origin or a seed: of all that are outside our site it is asked first. */
  likely(peerId: string): boolean;
  /** Peers that are connected and cannot be asked yet, because their links are being opened, or opened anew. */
  coming(): number;
  readonly down: Throttle;
  /** Connects to members that the DHT names as providers; resolves to their links. */
  providers(cid: CID, options: GetOptions): Promise<Link[]>;
}

/** The next peer is asked as well when one has not answered for this long, milliseconds. */
const HEDGE_MS = 100;
/** So many neighbours are asked at once: the answer is mostly no, and short. */
const AT_ONCE = 16;
/** Who gave the last block is asked before others like it within this time, milliseconds: it has the next ones, too. */
const GIVER_MS = 10_000;
/**
 * Peers of our site, and others, that are asked for one block before the DHT is, which knows whole artifacts only. More
 * than most nodes are connected to outside their site: one of them may be the only holder, and a no is a few bytes.
 */
const MOST_ASKED = { near: 32, far: 64 };
/** Those that can be asked in a moment are waited for so long, and looked for so often, milliseconds. */
const COMING_MS = 10_000;
const LOOK_MS = 50;

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
    const { signal } = options;
    signal.throwIfAborted();
    const { down } = this.#deps;
    const block = { cid, like: options.like };
    const asked = new Set<Link>();
    const until = performance.now() + COMING_MS;
    let found: Found | undefined;
    for (;;) {
      const links = this.#inOrder(asked);
      for (const link of links) asked.add(link);
      const alone = links[0] !== undefined && this.#isGiver(links[0]);
      found = await askInTurn(block, links, { down, alone }, signal);
      if (found !== undefined) break;
      const enough = [...asked].filter(({ near }) => near).length >= MOST_ASKED.near;
      if (!enough && this.#deps.coming() > 0 && performance.now() < until) await delay(LOOK_MS, undefined, { signal });
      else if (this.#inOrder(asked).length === 0) break;
    }
    if (found === undefined) {
      const providers = await this.#deps.providers(cid, options);
      const others = providers.filter((link) => !asked.has(link));
      found = await askInTurn(block, others, { down, alone: false }, signal);
    }
    if (found !== undefined) this.#giver = { link: found.link, at: performance.now() };
    return found?.bytes;
  }

  /** From one peer alone. */
  async from(link: Link, cid: CID, { signal }: GetOptions): Promise<Uint8Array | undefined> {
    const { down } = this.#deps;
    return (await askInTurn({ cid, like: undefined }, [link], { down, alone: true }, signal))?.bytes;
  }

  /** Whom to ask, the likeliest first, without those that were asked. */
  #inOrder(asked: ReadonlySet<Link>): Link[] {
    const left = { ...MOST_ASKED };
    for (const { near } of asked) left[near ? 'near' : 'far'] -= 1;
    const links = this.#deps.links().filter((link) => !asked.has(link));
    const ranked = links.map((link) => ({ link, rank: this.#rankOf(link) })).sort((a, b) => a.rank - b.rank);
    return ranked.flatMap(({ link }) => (left[link.near ? 'near' : 'far']-- > 0 ? [link] : []));
  }

  #isGiver(link: Link): boolean {
    return this.#giver?.link === link && performance.now() - this.#giver.at < GIVER_MS;
  }

  /** The lower, the sooner. */
  #rankOf(link: Link): number {
    const place = link.near ? 0 : this.#deps.likely(link.peerId) ? 2 : 3;
    return (this.#isGiver(link) ? -1 : 0) + place + (link.stalled ? 4 : 0) + Math.random();
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
