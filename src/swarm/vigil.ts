import type { Connection } from '@libp2p/interface';
import type { Log } from '../observe/log.ts';
import type { SwarmNode } from './node.ts';

export interface VigilDeps {
  readonly node: SwarmNode;
  readonly log: Log;
  /** When the peer last said or sent anything of the exchange, by `performance.now()`. */
  heardAt(peerId: string): number | undefined;
}

/** A machine that is busy booting another may answer late; a dead one is noticed sooner, by its silence in a transfer. */
const ANSWER_MS = 8_000;

/**
 * Finds connections whose other end is gone without a word. Who was heard lately is not asked: a ping opens a stream,
 * which costs more than the messages of a busy pair, and a pair that moves chunks needs no other sign of life.
 */
export class Vigil implements Disposable {
  readonly #deps: VigilDeps;
  readonly #pingMs: number;
  readonly #asked = new Set<Connection>();
  readonly #timer: NodeJS.Timeout;

  /** @param pingMs a peer that was silent for so long is asked, milliseconds */
  constructor(deps: VigilDeps, pingMs: number) {
    this.#deps = deps;
    this.#pingMs = pingMs;
    this.#timer = setInterval(() => this.#look(), pingMs).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const lately = performance.now() - this.#pingMs;
    for (const connection of this.#deps.node.getConnections()) {
      const heard = this.#heardSince(connection, lately) && connection.rtt !== undefined;
      if (!heard && !this.#asked.has(connection)) void this.#ask(connection);
    }
  }

  async #ask(connection: Connection): Promise<void> {
    const { node, log } = this.#deps;
    const askedAt = performance.now();
    this.#asked.add(connection);
    try {
      const signal = AbortSignal.timeout(ANSWER_MS);
      connection.rtt = await node.services.ping.ping(connection.remotePeer, { signal });
    } catch (error) {
      if (this.#heardSince(connection, askedAt) || connection.status !== 'open') return;
      log.debug('peer does not answer', { peer: connection.remotePeer.toString(), error });
      connection.abort(error as Error);
    } finally {
      this.#asked.delete(connection);
    }
  }

  #heardSince({ remotePeer }: Connection, since: number): boolean {
    return (this.#deps.heardAt(remotePeer.toString()) ?? Number.NEGATIVE_INFINITY) >= since;
  }
}
