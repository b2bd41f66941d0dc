import type { Log } from '../observe/log.ts';
import { isEndpoint } from './endpoint-order.ts';

/** Questions between members. */
export interface MemberQuestions {
  /** Connected members. */
  peers(): string[];
  ask(
    peer: string,
    name: string,
    options: { readonly signal: AbortSignal; readonly maxBytes: number },
  ): Promise<Uint8Array | undefined>;
  serve(prefix: string, provider: (name: string, from: string) => Promise<Uint8Array | undefined>): void;
}

interface Deps {
  readonly network: MemberQuestions;
  /** Where this node's own interface has heard from the member, if it is of another site than the one that asks. */
  seen(peerId: string, from: string): string | undefined;
  /** It may have heard from members that are not in our site. */
  isGateway(peerId: string): boolean;
  /** Something new is known. */
  readonly onNews: () => void;
  readonly log: Log;
}

interface Known {
  readonly endpoints: readonly string[];
  readonly askedAt: number;
  /** Times in a row that nobody knew. */
  readonly vain: number;
}

const SEEN = 'overlay/seen/';
const MAX_ENDPOINT_BYTES = 64;
/** Gateways that are asked about one member. */
const MOST_ASKED = 3;
const ASK_MS = 5_000;
/** What nobody knows is asked again soon at first, and what is known now and then, milliseconds. */
const AGAIN_MS = { soon: 8_000, later: 300_000 };
/** Times that nobody knew, after which it is asked later. */
const SOON = 10;
const MAX_KNOWN = 512;
const MAX_ASKING = 32;

/**
 * Where members of other sites are on the outside of their NATs, as gateways see it: the address that a packet of
 * WireGuard came from, authenticated. What a gateway says is a hint; who answers there proves itself.
 */
export class Whereabouts implements Disposable {
  readonly #deps: Deps;
  readonly #over = new AbortController();
  readonly #known = new Map<string, Known>();
  readonly #asking = new Set<string>();

  constructor(deps: Deps) {
    this.#deps = deps;
    deps.network.serve(SEEN, async (name, from) => {
      const endpoint = deps.seen(name.slice(SEEN.length), from);
      return endpoint === undefined ? undefined : Buffer.from(endpoint);
    });
  }

  /** What is known now; what is not, or not any more, is being asked for. */
  of(peerId: string): readonly string[] {
    const known = this.#known.get(peerId);
    const wait = known === undefined ? 0 : known.vain > 0 && known.vain < SOON ? AGAIN_MS.soon : AGAIN_MS.later;
    const due = known === undefined || performance.now() - known.askedAt >= wait;
    if (due && !this.#asking.has(peerId) && this.#asking.size < MAX_ASKING) void this.#ask(peerId);
    return known?.endpoints ?? [];
  }

  [Symbol.dispose](): void {
    this.#over.abort(new DOMException('the overlay is closed', 'AbortError'));
  }

  async #ask(peerId: string): Promise<void> {
    const { network, isGateway, onNews } = this.#deps;
    const gateways = network.peers().filter((peer) => peer !== peerId && isGateway(peer));
    if (gateways.length === 0) return;
    this.#asking.add(peerId);
    try {
      const answers = await Promise.all(
        gateways.slice(0, MOST_ASKED).map((gateway) => this.#question(gateway, peerId)),
      );
      const endpoints = [...new Set(answers.flatMap((answer) => answer ?? []))];
      if (this.#known.size >= MAX_KNOWN) this.#known.clear();
      const vain = endpoints.length > 0 ? 0 : (this.#known.get(peerId)?.vain ?? 0) + 1;
      this.#known.set(peerId, { endpoints, askedAt: performance.now(), vain });
      if (endpoints.length > 0) onNews();
    } finally {
      this.#asking.delete(peerId);
    }
  }

  async #question(gateway: string, peerId: string): Promise<string | undefined> {
    const signal = AbortSignal.any([this.#over.signal, AbortSignal.timeout(ASK_MS)]);
    try {
      const answer = await this.#deps.network.ask(gateway, SEEN + peerId, { signal, maxBytes: MAX_ENDPOINT_BYTES });
      const endpoint = answer && Buffer.from(answer).toString();
      return endpoint !== undefined && isEndpoint(endpoint) ? endpoint : undefined;
    } catch (error) {
      this.#deps.log.debug('a gateway did not say where a member is', { peer: gateway, member: peerId, error });
      return undefined;
    }
  }
}
