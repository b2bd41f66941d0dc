import type { Connection } from '@libp2p/interface';
import type { Log } from '../observe/log.ts';
import type { SwarmNode } from './node.ts';

export interface VigilDeps {
  readonly node: SwarmNode;
  readonly log: Log;
  /** When the peer last said or sent anything of the exchange, by `performance.now()`. */
  heardAt(peerId: string): number | undefined;
}

export interface VigilOptions {
  /** A peer that was silent for so long is asked, milliseconds. */
  readonly pingMs: number;
  /**
   * It has so long to answer, milliseconds. A machine that is busy booting another may answer late; a dead one is noticed
   * sooner, by its silence in a transfer. @default 8_000
   */
  readonly answerMs?: number;
}

/** What libp2p's connection has inside: Yamux, whose ping is one small frame each way, and no stream. */
interface ConnectionInside {
  readonly muxer?: { ping?(options: { readonly signal: AbortSignal }): Promise<number> };
}

/**
 * Finds connections whose other end is gone without a word. Who was heard lately is not asked: a pair that moves chunks
 * needs no other sign of life. Two nodes that dialled each other at once have two connections, and each is asked for
 * itself: libp2p's own ping service asks a peer, by whichever connection, one question at a time.
 */
export class Vigil implements Disposable {
  readonly #deps: VigilDeps;
  readonly #options: Required<VigilOptions>;
  readonly #asked = new Set<Connection>();
  readonly #timer: NodeJS.Timeout;

  constructor(deps: VigilDeps, options: VigilOptions) {
    this.#deps = deps;
    this.#options = { answerMs: 8_000, ...options };
    this.#timer = setInterval(() => this.#look(), options.pingMs).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const lately = performance.now() - this.#options.pingMs;
    for (const connection of this.#deps.node.getConnections()) {
      const heard = this.#heardSince(connection, lately) && connection.rtt !== undefined;
      if (!heard && !this.#asked.has(connection)) void this.#ask(connection);
    }
  }

  async #ask(connection: Connection): Promise<void> {
    const askedAt = performance.now();
    this.#asked.add(connection);
    try {
      const rtt = await ping(connection, AbortSignal.timeout(this.#options.answerMs));
      if (rtt !== undefined) connection.rtt = rtt;
    } catch (error) {
      if (this.#heardSince(connection, askedAt) || connection.status !== 'open') return;
      this.#deps.log.info('peer does not answer', { peer: connection.remotePeer.toString(), error });
      connection.abort(error as Error);
    } finally {
      this.#asked.delete(connection);
    }
  }

  #heardSince({ remotePeer }: Connection, since: number): boolean {
    return (this.#deps.heardAt(remotePeer.toString()) ?? Number.NEGATIVE_INFINITY) >= since;
  }
}

/** Milliseconds. */
async function ping(connection: Connection, signal: AbortSignal): Promise<number | undefined> {
  const { muxer } = connection as ConnectionInside;
  // Should libp2p change inside, the dead are found by TCP alone, and nobody alive is taken for dead.
  return muxer?.ping === undefined ? undefined : await muxer.ping({ signal });
}
