import { answerDelay, MAX_ANSWERS } from '../schedule/answer.ts';

/** One question of one client, asked of all nodes of the segment. */
export interface Question {
  readonly mac: string;
  /** What ranks the nodes, see `DhcpClient.key`. */
  readonly key: string;
  readonly xid: number;
  /** Sort of question; each sort's repetitions are counted apart (firmware's DISCOVER, iPXE's, the guest's). */
  readonly stage: string;
  /** Peer ids of the nodes that may answer. */
  readonly eligible: readonly string[];
}

export interface TurnsOptions {
  readonly self: string;
  /** A client that asks again within so long has got nowhere, ms. @default 60000 */
  readonly repeatMs?: number;
}

const REPEAT_MS = 60_000;
/** Claims are of use for the moments around their question only, ms. */
const CLAIM_LIFE_MS = 1500;
/**
 * A timer that fires so late has waited for a busy process, in whose sockets a claim may be waiting as well, ms… Node
 * runs timers before it reads sockets…
 */
const LATE_MS = 10;
/** …so the claim is given this long to be read and its signature to be checked, ms. */
const READ_MS = 50;
/** Clients remembered, and answers that wait for their time; hostile clients push out the oldest, not memory's end. */
const MAX_CLIENTS = 4096;
const MAX_WAITING = 256;

interface Asked {
  readonly at: number;
  readonly attempt: number;
}

/**
 * Whose turn it is to answer: holds an answer back for its rank's time, and drops it when another node claims the
 * client first. Dispose drops all that wait.
 */
export class Turns implements Disposable {
  readonly #options: Required<TurnsOptions>;
  readonly #asked = new Map<string, Asked>();
  readonly #claims = new Map<string, number[]>();
  readonly #waiting = new Map<string, NodeJS.Timeout>();

  constructor(options: TurnsOptions) {
    this.#options = { repeatMs: REPEAT_MS, ...options };
  }

  /** Calls `answer` when, and if, it is this node's turn. */
  take(question: Question, answer: (turn: { rank: number; attempt: number }) => void): void {
    const now = performance.now();
    const id = turnId(question.mac, question.xid);
    const attempt = this.#count(question, now);
    const state = { self: this.#options.self, client: question.key, eligible: question.eligible, attempt };
    const plan = answerDelay({ ...state, claims: this.#claimsSince(id, now - CLAIM_LIFE_MS, attempt) });
    if (plan === undefined || (this.#waiting.size >= MAX_WAITING && !this.#waiting.has(id))) return;
    clearTimeout(this.#waiting.get(id));
    this.#waiting.delete(id);
    if (plan.delayMs === 0) {
      answer({ rank: plan.rank, attempt });
      return;
    }
    const due = now + plan.delayMs;
    const inTime = () => {
      this.#waiting.delete(id);
      answer({ rank: plan.rank, attempt });
    };
    const fired = () => {
      if (performance.now() - due <= LATE_MS) inTime();
      else this.#waiting.set(id, setTimeout(inTime, READ_MS));
    };
    this.#waiting.set(id, setTimeout(fired, plan.delayMs));
  }

  /** Another node answers this question. */
  claimed(mac: string, xid: number): void {
    const id = turnId(mac, xid);
    const claims = this.#claims.get(id) ?? [];
    remember(this.#claims, id, [...claims.slice(1 - MAX_ANSWERS), performance.now()]);
    clearTimeout(this.#waiting.get(id));
    this.#waiting.delete(id);
  }

  /** Answers that are held back now. */
  get waiting(): number {
    return this.#waiting.size;
  }

  [Symbol.dispose](): void {
    for (const timer of this.#waiting.values()) clearTimeout(timer);
    this.#waiting.clear();
  }

  #count({ mac, stage }: Question, now: number): number {
    const key = `${stage} ${mac}`;
    const before = this.#asked.get(key);
    const repeats = before !== undefined && now - before.at < this.#options.repeatMs;
    const attempt = repeats ? before.attempt + 1 : 0;
    remember(this.#asked, key, { at: now, attempt });
    return attempt;
  }

  /**
   * Claims that can be about this very message: those heard since the client's previous one. A claim may overtake its
   * question, by a few milliseconds; a repetition of the same xid must not be taken for answered by an old claim.
   */
  #claimsSince(id: string, since: number, attempt: number): number {
    const after = attempt === 0 ? since : performance.now() - 50;
    return (this.#claims.get(id) ?? []).filter((at) => at >= after).length;
  }
}

function turnId(mac: string, xid: number): string {
  return `${mac} ${xid}`;
}

/** Sets the newest, and lets the oldest go beyond the bound. */
function remember<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > MAX_CLIENTS) map.delete(map.keys().next().value ?? '');
}
