import { createHash } from 'node:crypto';

/** Who answers a booting client of a segment. Pure: every node computes it from what it heard, and they agree. */
export interface AnswerState {
  /** Peer ids of the nodes that may answer, this one included when it may. */
  readonly eligible: Iterable<string>;
  readonly self: string;
  /** What names the client on every node alike. */
  readonly client: string;
  /** How often this client has asked again without getting anywhere; 0 the first time. */
  readonly attempt: number;
  /** How many nodes are known to have answered this very message. */
  readonly claims: number;
  /** How many answers the client should get. 2 for firmware that fails over between them. @default 1 */
  readonly wanted?: number;
}

/** Firmware keeps 16 offers at most (EDK2); three are plenty and leave room for others on the segment. */
export const MAX_ANSWERS = 3;
/** What each further rank waits for a claim of those before it, ms. */
const RANK_DELAY_MS = 250;
/**
 * The ranks that may answer one message: no more than the client should get answers, so that it gets no more even when
 * not one claim is heard. A client that all of them fail asks again, and every node moves up by one.
 */
const MAX_RANK = MAX_ANSWERS - 1;

/** Nodes in the order in which they answer `client`: rendezvous hash, so that one node's end moves only its clients. */
export function rankNodes(client: string, nodes: Iterable<string>): string[] {
  const scored = [...new Set(nodes)].map((node) => ({ node, score: rendezvousScore(client, node) }));
  return scored.sort((a, b) => (a.score < b.score ? 1 : a.score > b.score ? -1 : 0)).map(({ node }) => node);
}

/** Hexadecimal, so that comparing text compares numbers. */
function rendezvousScore(client: string, node: string): string {
  return createHash('sha256').update(`${client.length}:${client}${node}`).digest('hex');
}

/**
 * How long this node waits before it answers, in ms, or undefined when it stays silent. Each repeated question moves
 * everyone one rank on, so that a node that answers badly, or is dead and not yet known to be, does not hold a client.
 */
export function answerDelay(state: AnswerState): { readonly rank: number; readonly delayMs: number } | undefined {
  const wanted = Math.min(state.wanted ?? 1, MAX_ANSWERS);
  if (state.claims >= wanted) return undefined;
  const order = rankNodes(state.client, state.eligible);
  const place = order.indexOf(state.self);
  if (place === -1) return undefined;
  const rank = (((place - state.attempt) % order.length) + order.length) % order.length;
  if (rank > MAX_RANK) return undefined;
  return { rank, delayMs: Math.max(0, rank - wanted + 1) * RANK_DELAY_MS };
}
